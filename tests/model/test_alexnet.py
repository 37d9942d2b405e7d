"""The network of each experiment: shapes, counts, order of layers, towers, initial weights."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from pipeline.config import ConvConfig, ExperimentConfig, LinearConfig, ModelConfig
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS
from pipeline.model.alexnet import AlexNet, build_alexnet, count_positions
from pipeline.model.describe import LayerRow, describe_layers, format_layers
from pipeline.model.layers import MaskDropout
from pipeline.paper import CIFAR_CONV_STDS, CIFAR_FC_STD, NEURONS, PARAMETERS

TWO_TOWERS = ("source-2010", "source-2012", "paper")

SHAPES = {  # maps and their side after each convolution and pooling, then units
    "source-2012": "96x55 96x27 256x27 256x13 384x13 384x13 256x13 256x6 9216 4096 4096 1000",
    "one-gpu": "48x55 48x27 128x27 128x13 192x13 192x13 256x13 256x6 9216 4096 4096 1000",
    "non-overlapping-pooling": "96x55 96x28 256x26 256x13 384x13 384x13 256x11 256x6 9216 4096 4096 1000",
    "without-conv3": "96x55 96x27 256x27 256x13 384x13 256x13 256x6 9216 4096 4096 1000",
    "without-conv5": "96x55 96x27 256x27 256x13 384x13 384x13 384x6 13824 4096 4096 1000",
    "six-conv": "96x55 96x27 256x27 256x13 384x13 384x13 256x13 256x6 256x6 9216 4096 4096 1000",
    "fig1-relu": "32x32 32x16 32x16 32x8 64x8 64x4 1024 10",
    "one-weird-trick": "64x55 64x27 192x27 192x13 384x13 256x13 256x13 256x6 9216 4096 4096 1000",
    "finetune": "64x55 64x27 192x27 192x13 384x13 256x13 256x13 256x6 9216 4096 4096 2",
    "tutorial-half": "48x55 48x27 128x27 128x13 192x13 192x13 128x13 128x6 4608 2048 2048 1000",
    "tutorial-d2l": "96x54 96x26 256x26 256x12 384x12 384x12 256x12 256x5 6400 4096 4096 10",
    "tutorial-d2l-28": "96x28 96x26 256x26 256x12 384x12 384x12 256x12 256x5 6400 4096 4096 10",
}
SHAPES |= dict.fromkeys(
    (
        *("source-2010", "paper", "no-lrn", "no-color", "no-dropout", "no-weight-decay", "caffe", "modern"),
        "tutorial-one-tower",
    ),
    SHAPES["source-2012"],
)
SHAPES |= {"without-conv4": SHAPES["without-conv3"], "six-conv-finetune": SHAPES["six-conv"]}
SHAPES |= {"fig1-tanh": SHAPES["fig1-relu"]}

SOURCE_ORDER = (
    "conv1_pad conv1 conv1_lrn conv1_pool conv1_relu conv2 conv2_relu conv2_lrn conv2_local_norm conv2_pool "
    "conv3 conv3_relu conv4 conv4_relu conv5 conv5_pool conv5_relu "
    "flatten fc6 fc6_relu fc6_dropout fc7 fc7_relu fc7_dropout fc8"
)
PAPER_ORDER = (
    "conv1_pad conv1 conv1_relu conv1_lrn conv1_pool conv2 conv2_relu conv2_lrn conv2_pool "
    "conv3 conv3_relu conv4 conv4_relu conv5 conv5_relu conv5_pool "
    "flatten fc6 fc6_relu fc6_dropout fc7 fc7_relu fc7_dropout fc8"
)
CAFFE_ORDER = PAPER_ORDER.removeprefix("conv1_pad ")
D2L_ORDER = CAFFE_ORDER.replace("conv1_lrn ", "").replace("conv2_lrn ", "")
TORCHVISION_ORDER = D2L_ORDER.replace("conv5_pool", "conv5_pool conv5_dropout").replace("fc7_dropout ", "")
FIG1_ORDER = "conv1 conv1_pool conv1_relu conv2 conv2_relu conv2_pool conv3 conv3_relu conv3_pool flatten fc4"
LAYER_ORDER = {
    **dict.fromkeys(("source-2010", "source-2012", "one-gpu", "non-overlapping-pooling"), SOURCE_ORDER),
    **dict.fromkeys(("no-color", "no-weight-decay"), SOURCE_ORDER),
    "no-lrn": SOURCE_ORDER.replace("conv1_lrn ", "").replace("conv2_lrn conv2_local_norm ", ""),
    "no-dropout": SOURCE_ORDER.replace("fc6_dropout ", "").replace("fc7_dropout ", ""),
    "without-conv3": SOURCE_ORDER.replace("conv3 conv3_relu ", ""),
    "without-conv4": SOURCE_ORDER.replace("conv4 conv4_relu ", ""),
    "without-conv5": SOURCE_ORDER.replace("conv4_relu conv5 conv5_pool conv5_relu", "conv4_pool conv4_relu"),
    **dict.fromkeys(
        ("six-conv", "six-conv-finetune"), SOURCE_ORDER.replace("conv5_relu", "conv5_relu conv6 conv6_relu")
    ),
    **dict.fromkeys(("paper", "modern"), PAPER_ORDER),
    **dict.fromkeys(("caffe", "tutorial-one-tower"), CAFFE_ORDER),
    **dict.fromkeys(("tutorial-d2l", "tutorial-d2l-28"), D2L_ORDER),
    **dict.fromkeys(("one-weird-trick", "finetune", "tutorial-half"), TORCHVISION_ORDER),
    "fig1-relu": FIG1_ORDER,
    "fig1-tanh": FIG1_ORDER.replace("relu", "tanh"),
}

TWO_TOWER_CONVS = [(96, 3 * 121), (256, 48 * 25), (384, 256 * 9), (384, 192 * 9), (256, 192 * 9)]
CONVS = {  # kernels and the weights of each
    **dict.fromkeys((*TWO_TOWERS, "caffe", "modern"), TWO_TOWER_CONVS),
    "one-gpu": [(48, 3 * 121), (128, 48 * 25), (192, 128 * 9), (192, 192 * 9), (256, 192 * 9)],
    "without-conv3": [(96, 3 * 121), (256, 48 * 25), (384, 128 * 9), (256, 192 * 9)],
    "without-conv4": [(96, 3 * 121), (256, 48 * 25), (384, 256 * 9), (256, 192 * 9)],
    "without-conv5": [(96, 3 * 121), (256, 48 * 25), (384, 256 * 9), (384, 192 * 9)],
    "six-conv": [*TWO_TOWER_CONVS, (256, 256 * 9)],
    "fig1-relu": [(32, 3 * 25), (32, 32 * 25), (64, 32 * 25)],
    "one-weird-trick": [(64, 3 * 121), (192, 64 * 25), (384, 192 * 9), (256, 384 * 9), (256, 256 * 9)],
    "tutorial-half": [(48, 3 * 121), (128, 48 * 25), (192, 128 * 9), (192, 192 * 9), (128, 192 * 9)],
    "tutorial-one-tower": [(96, 3 * 121), (256, 96 * 25), (384, 256 * 9), (384, 384 * 9), (256, 384 * 9)],
    "tutorial-d2l": [(96, 121), (256, 96 * 25), (384, 256 * 9), (384, 384 * 9), (256, 384 * 9)],
    "tutorial-d2l-28": [(96, 25), (256, 96 * 25), (384, 256 * 9), (384, 384 * 9), (256, 384 * 9)],
}

NETWORKS = list({experiment.config.model: name for name, experiment in EXPERIMENTS.items()}.values())
"""An experiment for each network that differs from all others."""


def get_config(name: str, *, width: float = 1.0) -> ExperimentConfig:
    config = EXPERIMENTS[name].config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, width=width))


def build(name: str, *, width: float = 1.0, seed: int | None = 0) -> AlexNet:
    config = get_config(name, width=width)
    return build_alexnet(config.model, input_pixels=config.augment.input_pixels, seed=seed)


@functools.cache
def describe(name: str) -> list[LayerRow]:
    config = EXPERIMENTS[name].config
    return describe_layers(config.model, input_pixels=config.augment.input_pixels)


def count_parameters(name: str) -> int:
    return sum(row.num_parameters for row in describe(name))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_output_shapes_are_those_of_the_table(name):
    rows = [row for row in describe(name) if row.kind in {"Conv2d", "MaxPool2d", "Flatten", "Linear"}]
    assert all(row.output_shape[1:2] == row.output_shape[2:] for row in rows)
    assert " ".join("x".join(map(str, row.output_shape[:2])) for row in rows) == SHAPES[name]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_layers_come_in_the_order_of_the_description(name):
    assert [row.name for row in describe(name)] == LAYER_ORDER[name].split()


@pytest.mark.parametrize("name", NETWORKS)
def test_each_layer_does_what_its_name_says(name):
    kinds = {"lrn": "CrossMapNorm", "local_norm": "WithinMapNorm", "pool": "MaxPool2d", "relu": "ReLU", "tanh": "Tanh"}
    rows = [(row.name.partition("_")[2], row.kind) for row in describe(name)]
    assert [(step, kind) for step, kind in rows if kind != kinds.get(step, kind)] == []


@pytest.mark.parametrize("name", CONVS)
def test_each_layer_has_the_parameters_counted_by_hand(name):
    units = [int(count) for count in SHAPES[name].split() if "x" not in count]
    layers = [*CONVS[name], *zip(units[1:], units[:-1], strict=True)]
    found = [row.num_parameters for row in describe(name) if row.num_parameters]
    assert found == [outputs * inputs + outputs for outputs, inputs in layers]


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_the_network_of_the_paper_has_60965224_parameters_and_659272_neurons(name):
    assert count_parameters(name) == PARAMETERS == 60_965_224
    neurons = sum(math.prod(row.output_shape) for row in describe(name) if row.num_parameters)
    assert neurons == NEURONS == 659_272


def test_the_parameters_of_the_variants_are_those_published():
    published = {  # the source's notes; torchvision's model page
        "one-gpu": 59_798_312,
        "six-conv": 61_555_304,
        "one-weird-trick": 61_100_840,
        "finetune": 61_100_840 - 998 * 4097,
    }
    assert {name: count_parameters(name) for name in published} == published
    unchanged = ("no-lrn", "no-color", "no-dropout", "no-weight-decay", "non-overlapping-pooling", "caffe", "modern")
    assert {count_parameters(name) for name in unchanged} == {PARAMETERS}


def test_one_weird_trick_has_torchvision_s_layers_one_by_one():
    with torch.device("meta"):
        ours, theirs = build("one-weird-trick", seed=None), torchvision.models.alexnet()
    expected = [str(layer) for layer in (*theirs.features, *theirs.classifier)]
    assert [str(layer) for layer in ours if not isinstance(layer, nn.Flatten)] == expected


def test_the_first_fully_connected_layer_of_tutorial_d2l_is_the_largest_and_conv2_the_slowest():
    rows = describe("tutorial-d2l")
    largest = max(rows, key=lambda row: row.num_parameters)
    assert (largest.name, largest.num_parameters) == ("fc6", 26_218_496)
    assert max(rows, key=lambda row: row.num_multiply_adds).name == "conv2"


@pytest.mark.parametrize(
    ("layer", "multiply_adds"),
    [
        ("conv1", 96 * 55 * 55 * 3 * 11 * 11),
        ("conv2", 256 * 27 * 27 * 48 * 5 * 5),  # a kernel sees the 48 maps of its own tower
        ("conv3", 384 * 13 * 13 * 256 * 3 * 3),
        ("fc6", 4096 * 9216),
        ("conv1_lrn", 0),
    ],
)
def test_multiply_adds_are_those_counted_by_hand(layer, multiply_adds):
    rows = {row.name: row for row in describe("source-2012")}
    assert rows[layer].num_multiply_adds == multiply_adds


def test_activation_bytes_are_those_of_float32_and_nothing_for_what_reuses_its_input():
    rows = {row.name: row for row in describe("source-2012")}
    assert rows["conv1"].activation_bytes == 96 * 55 * 55 * 4
    assert rows["conv1_relu"].activation_bytes == 0
    assert rows["flatten"].activation_bytes == 0


def test_the_table_for_people_ends_with_the_totals():
    last = format_layers(describe("source-2012")).splitlines()[-1]
    assert last.split()[:2] == ["total", "60,965,224"]


@pytest.mark.parametrize("name", NETWORKS)
def test_real_batches_take_the_shapes_that_the_table_says(name):
    config = get_config(name, width=0.125)
    network, pixels = build(name, width=0.125).eval(), config.augment.input_pixels
    logits = network(torch.zeros(2, config.model.in_channels, pixels, pixels))
    assert logits.shape == (2, config.model.num_classes)


def test_positions_are_counted_as_torch_pools_them():
    conv = ConvConfig(name="conv1", kernels=1, size=1, after=("pool",))
    linear = LinearConfig(name="fc2", units=None, after=())
    for side, size, stride, ceil in itertools.product(range(3, 12), (1, 2, 3), (1, 2, 3), (False, True)):
        config = ModelConfig(
            convs=(conv,), linears=(linear,), towers=1, pool_size=size, pool_stride=stride, pool_ceil=ceil
        )
        pooled = F.max_pool2d(torch.zeros(1, 1, side, side), size, stride, ceil_mode=ceil)
        assert count_positions(config, side) == pooled.shape[-1], (side, size, stride, ceil)


def test_a_layer_s_own_pooling_stride_and_norm_size_hold_for_it_alone():
    config = get_config("tutorial-one-tower", width=0.125).model
    first = dataclasses.replace(config.convs[0], pool_stride=1, lrn_size=12)
    config = dataclasses.replace(config, convs=(first, *config.convs[1:]))
    network = build_alexnet(config, input_pixels=224, seed=None)
    assert (network.conv1_pool.stride, network.conv2_pool.stride) == (1, 2)
    assert (network.conv1_lrn.config.size, network.conv2_lrn.config.size) == (12, 5)


def test_conv1_of_the_source_reads_zeros_beyond_the_right_and_bottom_edge():
    network = build("source-2012", width=0.125)
    nn.init.ones_(network.conv1.weight)
    nn.init.zeros_(network.conv1.bias)
    output = network.conv1(network.conv1_pad(torch.ones(1, 3, 224, 224)))
    assert output.shape == (1, 12, 55, 55)
    assert output[0, 0, 0, 0] == 3 * 11 * 11
    assert output[0, 0, 53, 53] == 3 * 11 * 11
    assert output[0, 0, 54, 0] == 3 * 8 * 11  # rows 216 to 226, of which 224 to 226 are beyond the picture
    assert output[0, 0, 0, 54] == 3 * 11 * 8
    assert output[0, 0, 54, 54] == 3 * 8 * 8


def run_towers(network: AlexNet, images: torch.Tensor, *, source: bool) -> torch.Tensor:
    """The same weights as two towers of convolutions and norms of their own, as on two GPUs (Fig. 2, net 145)."""

    def convolve(inputs, tower, name, **options):
        layer = network.get_submodule(name)
        weights, bias = layer.weight.chunk(2)[tower], layer.bias.chunk(2)[tower]
        return F.conv2d(inputs, weights, bias, **options)

    def normalize(maps):
        return F.local_response_norm(maps, 5, alpha=1e-4 if source else 5e-4, beta=0.75, k=2.0)

    def normalize_within(maps):
        return maps * (1 + 1e-3 * F.avg_pool2d(maps * maps, 5, 1, 2)) ** -0.75

    def pool(maps):
        return F.max_pool2d(maps, 3, 2)

    padded = F.pad(images, (0, 3, 0, 3))
    towers = [convolve(padded, tower, "conv1", stride=4) for tower in range(2)]
    towers = [F.relu(pool(normalize(t))) if source else pool(normalize(F.relu(t))) for t in towers]
    towers = [normalize(F.relu(convolve(t, tower, "conv2", padding=2))) for tower, t in enumerate(towers)]
    towers = [pool(normalize_within(t)) if source else pool(t) for t in towers]
    both = torch.cat(towers, 1)
    towers = [F.relu(convolve(both, tower, "conv3", padding=1)) for tower in range(2)]
    towers = [F.relu(convolve(t, tower, "conv4", padding=1)) for tower, t in enumerate(towers)]
    towers = [pool(F.relu(convolve(t, tower, "conv5", padding=1))) for tower, t in enumerate(towers)]
    both = torch.cat(towers, 1).flatten(1)
    for name in ("fc6", "fc7"):
        layer = network.get_submodule(name)
        both = 0.5 * F.relu(F.linear(both, layer.weight, layer.bias))
    return F.linear(both, network.fc8.weight, network.fc8.bias)


@pytest.mark.parametrize("name", ["source-2012", "paper"])
def test_the_grouped_network_is_two_towers(name):
    network = build(name, width=0.125).double().eval()
    for parameter in network.parameters():  # initial weights this narrow leave nothing of the picture at the end
        nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    images = torch.from_numpy(np.random.default_rng(0).normal(0, 60, (2, 3, 224, 224)))
    logits = network(images.clone())
    assert logits.std().item() > 0.01
    assert not torch.allclose(logits[0], logits[1], rtol=1e-3)
    torch.testing.assert_close(logits, run_towers(network, images, source=name != "paper"), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "conv345_std", "fc67_std", "bias"),
    [("source-2012", 0.03, 0.01, 1.0), ("paper", 0.01, 0.01, 1.0), ("caffe", 0.01, 0.005, 0.1)],
)
def test_initial_weights_and_biases_are_those_of_section_5_and_of_caffe(name, conv345_std, fc67_std, bias):
    network = build(name, width=0.25)
    stds = dict.fromkeys(("conv1", "conv2", "fc8"), 0.01) | dict.fromkeys(("fc6", "fc7"), fc67_std)
    stds |= dict.fromkeys(("conv3", "conv4", "conv5"), conv345_std)
    biases = dict.fromkeys(("conv1", "conv3", "fc8"), 0.0)
    biases |= dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), bias)
    for layer, std in stds.items():
        weight = network.get_parameter(f"{layer}.weight")
        assert weight.std().item() == pytest.approx(std, rel=0.03), layer
        assert weight.mean().item() == pytest.approx(0, abs=6 * std / math.sqrt(weight.numel())), layer
        assert torch.equal(network.get_parameter(f"{layer}.bias"), torch.full((len(weight),), biases[layer])), layer


def test_initial_weights_of_tutorial_half_are_kaiming_by_fan_out():
    network = build("tutorial-half", width=0.5)
    kernels, sizes = (24, 64, 96, 96, 64), (11, 5, 3, 3, 3)
    stds = {f"conv{i + 1}": math.sqrt(2 / (kernels[i] * sizes[i] ** 2)) for i in range(5)}
    for layer, std in (stds | dict.fromkeys(("fc6", "fc7", "fc8"), 0.01)).items():
        assert network.get_parameter(f"{layer}.weight").std().item() == pytest.approx(std, rel=0.03), layer
        assert not network.get_parameter(f"{layer}.bias").any(), layer


@pytest.mark.parametrize("name", ["fig1-relu", "fig1-tanh"])
def test_initial_weights_of_figure_1_are_those_of_the_source_s_cifar_net(name):
    network = build(name)
    stds = dict(zip(("conv1", "conv2", "conv3", "fc4"), (*CIFAR_CONV_STDS, CIFAR_FC_STD), strict=True))
    for layer, std in stds.items():
        assert network.get_parameter(f"{layer}.weight").std().item() == pytest.approx(std, rel=0.05), layer
        assert not network.get_parameter(f"{layer}.bias").any(), layer


def build_plain_layers(network: AlexNet) -> dict[str, nn.Conv2d | nn.Linear]:
    """Layers of the same sizes, one after the other, as torch itself makes them."""
    plain: dict[str, nn.Conv2d | nn.Linear] = {}
    for name, layer in network.named_children():
        if isinstance(layer, nn.Conv2d):
            plain[name] = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size)
        elif isinstance(layer, nn.Linear):
            plain[name] = nn.Linear(layer.in_features, layer.out_features)
    return plain


@pytest.mark.parametrize("name", ["one-weird-trick", "finetune", "tutorial-one-tower"])
def test_torch_s_initial_weights_are_bit_for_bit_what_torch_draws_by_itself(name):
    network = build(name, width=0.125, seed=3)
    torch.manual_seed(3)
    for layer, plain in build_plain_layers(network).items():
        assert torch.equal(network.get_parameter(f"{layer}.weight"), plain.weight), layer
        assert torch.equal(network.get_parameter(f"{layer}.bias"), plain.bias), layer


@pytest.mark.parametrize("name", ["tutorial-d2l", "tutorial-d2l-28"])
def test_xavier_s_initial_weights_are_uniform_within_both_fans(name):
    network = build(name, width=0.5)
    for layer in build_plain_layers(network):
        weight, bias = network.get_parameter(f"{layer}.weight"), network.get_parameter(f"{layer}.bias")
        field = math.prod(weight.shape[2:])
        bound = math.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * field))
        assert 0.99 * bound < weight.abs().max().item() <= bound, layer
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05), layer
        assert 0 < bias.abs().max().item() <= 1 / math.sqrt(weight[0].numel()), layer


def test_the_seed_alone_decides_the_initial_weights():
    torch.manual_seed(1)
    first = build("source-2012", width=0.125, seed=5).state_dict()
    torch.manual_seed(2)
    again = build("source-2012", width=0.125, seed=5).state_dict()
    other = build("source-2012", width=0.125, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


def test_dropout_is_a_bare_mask_in_source_and_paper_and_inverted_elsewhere():
    for name in (*TWO_TOWERS, "one-gpu", "no-lrn", "six-conv"):
        layer = build(name, width=0.125).fc6_dropout
        assert isinstance(layer, MaskDropout)
        assert layer.rate == 0.5
    for name in ("caffe", "modern", "tutorial-one-tower", "tutorial-d2l", "finetune"):
        assert isinstance(build(name, width=0.125).fc6_dropout, nn.Dropout)
    layer = build("tutorial-half", width=0.125).fc6_dropout
    torch.manual_seed(0)
    dropped = layer(torch.ones(100, 100))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(3)), torch.ones(3))


@pytest.mark.parametrize(("crop_pixels", "layer"), [(7, "conv1"), (16, "conv2"), (62, "conv5")])
def test_an_input_too_small_is_refused_with_the_layer_that_it_does_not_fill(crop_pixels, layer):
    config = get_config("source-2012", width=0.125)
    with pytest.raises(
        InputError, match=rf"--augment.crop-pixels \(or resize-pixels\) {crop_pixels} is too small: {layer} gets"
    ):
        build_alexnet(config.model, input_pixels=crop_pixels, seed=0)
