"""Response norms and dropout against their formulas in NumPy, in every dtype, memory format and way to run them."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.config import ResponseNormConfig
from pipeline.model import layers
from pipeline.model.layers import CrossMapNorm, MaskDropout, WithinMapNorm

SOURCE = ResponseNormConfig(size=5, alpha=1e-4, beta=0.75, k=2.0)
NORMS = [
    SOURCE,
    ResponseNormConfig(size=5, alpha=0.7, beta=0.75, k=2.0),
    ResponseNormConfig(size=3, alpha=0.3, beta=0.5, k=1.0),
    ResponseNormConfig(size=1, alpha=0.3, beta=0.75, k=1.0),
    ResponseNormConfig(size=4, alpha=0.7, beta=0.75, k=2.0),  # reaches two maps down and one up
    ResponseNormConfig(size=9, alpha=0.7, beta=0.75, k=2.0),  # beyond both ends of a tower of seven maps
    ResponseNormConfig(size=40, alpha=0.7, beta=0.9, k=2.0),
]
ODD_NORMS = [config for config in NORMS if config.size % 2 == 1]
LAYERS = [*(CrossMapNorm(config, 2) for config in NORMS), *(WithinMapNorm(config) for config in ODD_NORMS)]


def draw_maps(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(0, scale, shape))


def normalize_across_maps(images: np.ndarray, config: ResponseNormConfig, towers: int) -> np.ndarray:
    """y = x · (k + alpha/n · Σ x²)^-beta, over the n maps from i - n//2 on, in the same tower."""
    result = np.empty_like(images)
    per_tower = images.shape[1] // towers
    for n, channel, row, column in np.ndindex(images.shape):
        tower = channel // per_tower
        first = channel - config.size // 2
        total = 0.0
        for neighbour in range(first, first + config.size):
            if tower * per_tower <= neighbour < (tower + 1) * per_tower:
                total += images[n, neighbour, row, column] ** 2
        scale = config.k + config.alpha / config.size * total
        result[n, channel, row, column] = images[n, channel, row, column] * scale**-config.beta
    return result


def normalize_within_maps(images: np.ndarray, config: ResponseNormConfig) -> np.ndarray:
    """y = x · (k + alpha/n² · Σ x²)^-beta, over the n x n neighbourhood in the same map."""
    result = np.empty_like(images)
    reach, height, width = config.size // 2, *images.shape[2:]
    for n, channel, row, column in np.ndindex(images.shape):
        total = 0.0
        for y in range(max(row - reach, 0), min(row + reach + 1, height)):
            for x in range(max(column - reach, 0), min(column + reach + 1, width)):
                total += images[n, channel, y, x] ** 2
        scale = config.k + config.alpha / config.size**2 * total
        result[n, channel, row, column] = images[n, channel, row, column] * scale**-config.beta
    return result


def normalize_by_formula(layer: nn.Module, images: np.ndarray) -> np.ndarray:
    if isinstance(layer, CrossMapNorm):
        return normalize_across_maps(images, layer.config, layer.towers)
    return normalize_within_maps(images, layer.config)


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("config", NORMS)
def test_cross_map_norm_is_the_formula_within_each_tower(config, towers):
    images = draw_maps(2, 14, 3, 2, scale=20)
    expected = normalize_across_maps(images.numpy(), config, towers)
    np.testing.assert_allclose(CrossMapNorm(config, towers)(images).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("config", ODD_NORMS)
def test_within_map_norm_is_the_formula_clipped_at_the_border(config):
    images = draw_maps(2, 3, 7, 6, scale=20)
    expected = normalize_within_maps(images.numpy(), config)
    np.testing.assert_allclose(WithinMapNorm(config)(images).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_float32_is_within_1e_6_of_the_formula_in_float64(layer):
    images = draw_maps(2, 14, 5, 4, scale=60).float()
    expected = normalize_by_formula(layer, images.double().numpy())
    np.testing.assert_allclose(layer(images).double().numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_gradients_of_the_norms_are_those_of_finite_differences(layer):
    images = draw_maps(1, 14, 3, 2, scale=2).requires_grad_()
    assert torch.autograd.gradcheck(layer, (images,))


def test_cross_map_norm_of_one_tower_does_not_see_the_other():
    config = NORMS[1]
    images = draw_maps(1, 12, 2, 2)
    changed = images.clone()
    changed[:, 6:] *= 3
    two, one = CrossMapNorm(config, 2), CrossMapNorm(config, 1)
    assert torch.equal(two(images)[:, :6], two(changed)[:, :6])
    assert not torch.equal(one(images)[:, :6], one(changed)[:, :6])


@pytest.mark.parametrize("size", [96, 256])
def test_a_window_of_all_maps_is_that_of_torch_with_gradients(size):
    """As a tutorial sets it: 96 and 256 maps under the window."""
    images = draw_maps(2, size, 3, 3, scale=20).requires_grad_()
    reference = nn.LocalResponseNorm(size, alpha=1.0, beta=0.75, k=2.0)
    ours = CrossMapNorm(ResponseNormConfig(size=size, alpha=1.0, beta=0.75, k=2.0), 1)
    torch.testing.assert_close(ours(images), reference(images), rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(norm(images).sin().sum(), images)[0] for norm in (ours, reference)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("num_images", [0, 1, 3, 8, 9])
def test_numbers_do_not_depend_on_how_a_batch_is_cut_into_parts(num_images, monkeypatch):
    images = draw_maps(num_images, 6, 4, 3, scale=3).requires_grad_()
    layer, results = CrossMapNorm(NORMS[1], 2), []
    for per_thread in (1, 4, 100):
        monkeypatch.setattr(layers, "PICTURES_PER_THREAD", per_thread)
        output = layer(images)
        results.append((output, *torch.autograd.grad(output.sin().sum(), images)))
    for output, gradient in results[1:]:
        assert torch.equal(output, results[0][0])
        assert torch.equal(gradient, results[0][1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_halves_are_summed_in_float32_and_rounded_once(layer, dtype):
    images = draw_maps(2, 14, 4, 3, scale=200).to(dtype).requires_grad_()  # squares overflow float16
    wide = images.detach().float().requires_grad_()
    output, expected = layer(images), layer(wide)
    assert output.dtype == dtype
    assert torch.equal(output, expected.to(dtype))
    gradient = draw_maps(2, 14, 4, 3).to(dtype)
    (found,) = torch.autograd.grad(output, images, gradient)
    (wanted,) = torch.autograd.grad(expected, wide, gradient.float())
    assert torch.equal(found, wanted.to(dtype))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_autocast_changes_nothing_of_float32(layer):
    images = draw_maps(2, 14, 4, 3, scale=20).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(images), layer(images.clone()))
        inside = layer(images)
    assert torch.equal(inside, layer(images))


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_channels_last_stays_and_gives_the_same_numbers(layer):
    images = draw_maps(3, 14, 5, 4, scale=2).requires_grad_()
    last = images.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    output, expected = layer(last), layer(images)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=0)
    gradients = [
        torch.autograd.grad(result.sin().sum(), source)[0] for result, source in ((output, last), (expected, images))
    ]
    assert gradients[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("layer", [CrossMapNorm(NORMS[1], 2), WithinMapNorm(NORMS[1])], ids=str)
def test_a_relu_that_overwrites_the_norms_output_leaves_gradients_right(layer):
    maps = draw_maps(2, 6, 4, 3, scale=2).requires_grad_()
    found = torch.autograd.grad(nn.ReLU(inplace=True)(layer(maps)).square().sum(), maps)[0]
    wanted = torch.autograd.grad(F.relu(layer(maps)).square().sum(), maps)[0]
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("layer", [CrossMapNorm(SOURCE, 2), WithinMapNorm(SOURCE)], ids=str)
def test_the_backward_pass_keeps_the_norms_input_and_nothing_else(layer):
    kept = []
    images = draw_maps(2, 6, 4, 3).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(images).sum()
    assert [tensor.data_ptr() for tensor in kept] == [images.data_ptr()]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_exported_norms_and_norms_without_data_are_the_same(layer):
    images = draw_maps(3, 14, 5, 4, scale=2)
    exported = torch.export.export(layer, (images,)).module()
    torch.testing.assert_close(exported(images), layer(images), rtol=1e-12, atol=0)
    without_data = layer(images.to("meta", memory_format=torch.channels_last))
    assert without_data.shape == images.shape
    assert without_data.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_norms_are_one_graph_with_the_same_numbers_and_gradients(backend):
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3), CrossMapNorm(NORMS[1], 2), nn.ReLU(inplace=True), WithinMapNorm(NORMS[1]), MaskDropout(0.0)
    ).double()
    images = draw_maps(2, 3, 9, 9, scale=20)
    results = []
    for run in (network, torch.compile(network, fullgraph=True, backend=backend)):
        output = run(images)
        results.append([output, *torch.autograd.grad(output.sin().sum(), [*network.parameters()])])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_mask_dropout_keeps_values_unscaled_in_training_and_scales_them_in_evaluation():
    torch.manual_seed(0)
    layer, activations = MaskDropout(0.3), draw_maps(200, 500)
    dropped = layer(activations)
    kept = dropped != 0
    assert torch.equal(dropped[kept], activations[kept])
    assert kept.double().mean().item() == pytest.approx(0.7, abs=0.01)
    assert not torch.equal(kept, layer(activations) != 0)
    assert torch.equal(layer.eval()(activations), activations * 0.7)


def test_mask_dropout_of_bfloat16_keeps_as_many():
    torch.manual_seed(0)
    dropped = MaskDropout(0.3)(torch.ones(400, 500, dtype=torch.bfloat16))
    assert dropped.dtype == torch.bfloat16
    assert (dropped != 0).double().mean().item() == pytest.approx(0.7, abs=0.005)


def test_mask_dropout_passes_gradients_to_kept_units_only():
    torch.manual_seed(0)
    activations = draw_maps(50, 50).requires_grad_()
    dropped = MaskDropout(0.5)(activations)
    dropped.sum().backward()
    assert torch.equal(activations.grad, (dropped != 0).double())


def test_mask_dropout_at_rate_0_changes_nothing():
    activations = draw_maps(20, 20)
    assert torch.equal(MaskDropout(0.0)(activations), activations)
    assert torch.equal(MaskDropout(0.0).eval()(activations), activations)
