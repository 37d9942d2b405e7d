"""Response norms and dropout against their formulas."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config import ResponseNormConfig
from pipeline.model.layers import CrossMapNorm, MaskDropout, WithinMapNorm

NORMS = [
    ResponseNormConfig(size=5, alpha=1e-4, beta=0.75, k=2.0),
    ResponseNormConfig(size=5, alpha=0.7, beta=0.75, k=2.0),
    ResponseNormConfig(size=3, alpha=0.3, beta=0.5, k=1.0),
]


def draw_maps(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(0, scale, shape))


def normalize_across_maps(images: np.ndarray, config: ResponseNormConfig, towers: int) -> np.ndarray:
    """y = x · (k + alpha/n · Σ x²)^-beta, over the maps i-n//2 … i+n//2 of the same tower."""
    result = np.empty_like(images)
    per_tower = images.shape[1] // towers
    for n, channel, row, column in np.ndindex(images.shape):
        tower = channel // per_tower
        total = 0.0
        for neighbour in range(channel - config.size // 2, channel + config.size // 2 + 1):
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


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("config", NORMS)
def test_cross_map_norm_is_the_formula_within_each_tower(config, towers):
    images = draw_maps(2, 14, 3, 2, scale=20)
    expected = normalize_across_maps(images.numpy(), config, towers)
    np.testing.assert_allclose(CrossMapNorm(config, towers)(images).numpy(), expected, rtol=1e-12)


def test_cross_map_norm_of_one_tower_does_not_see_the_other():
    config = NORMS[1]
    images = draw_maps(1, 12, 2, 2)
    changed = images.clone()
    changed[:, 6:] *= 3
    two, one = CrossMapNorm(config, 2), CrossMapNorm(config, 1)
    assert torch.equal(two(images)[:, :6], two(changed)[:, :6])
    assert not torch.equal(one(images)[:, :6], one(changed)[:, :6])


@pytest.mark.parametrize("config", NORMS)
def test_cross_map_norm_of_one_tower_is_that_of_torch(config):
    images = draw_maps(2, 16, 4, 5, scale=20)
    reference = nn.LocalResponseNorm(config.size, alpha=config.alpha, beta=config.beta, k=config.k)
    torch.testing.assert_close(CrossMapNorm(config, 1)(images), reference(images), rtol=1e-12, atol=0)


@pytest.mark.parametrize("config", NORMS)
def test_within_map_norm_is_the_formula_clipped_at_the_border(config):
    images = draw_maps(2, 3, 7, 6, scale=20)
    expected = normalize_within_maps(images.numpy(), config)
    np.testing.assert_allclose(WithinMapNorm(config)(images).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "layer", [CrossMapNorm(NORMS[1], 2), CrossMapNorm(NORMS[2], 1), WithinMapNorm(NORMS[1]), WithinMapNorm(NORMS[2])]
)
def test_gradients_of_the_norms_are_those_of_finite_differences(layer):
    images = draw_maps(1, 6, 4, 3, scale=2).requires_grad_()
    assert torch.autograd.gradcheck(layer, (images,))


def test_mask_dropout_keeps_values_unscaled_in_training_and_scales_them_in_evaluation():
    torch.manual_seed(0)
    layer, activations = MaskDropout(0.3), draw_maps(200, 500)
    dropped = layer(activations)
    kept = dropped != 0
    assert torch.equal(dropped[kept], activations[kept])
    assert kept.double().mean().item() == pytest.approx(0.7, abs=0.01)
    assert not torch.equal(kept, layer(activations) != 0)
    assert torch.equal(layer.eval()(activations), activations * 0.7)


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
