"""The network of each experiment: shapes, counts, order of layers, towers, initial weights."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.config import ExperimentConfig
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS
from pipeline.model.alexnet import AlexNet, build_alexnet
from pipeline.model.describe import describe_layers, format_layers
from pipeline.model.layers import MaskDropout
from pipeline.paper import NEURONS

TWO_TOWERS = ("source-2010", "source-2012", "paper")

TWO_TOWER_SHAPES = {
    "conv1": (96, 55, 55),
    "conv1_pool": (96, 27, 27),
    "conv2": (256, 27, 27),
    "conv2_pool": (256, 13, 13),
    "conv3": (384, 13, 13),
    "conv4": (384, 13, 13),
    "conv5": (256, 13, 13),
    "conv5_pool": (256, 6, 6),
    "flatten": (9216,),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (1000,),
}

TUTORIAL_HALF_SHAPES = {
    "conv1": (48, 55, 55),
    "conv1_pool": (48, 27, 27),
    "conv2": (128, 27, 27),
    "conv2_pool": (128, 13, 13),
    "conv3": (192, 13, 13),
    "conv4": (192, 13, 13),
    "conv5": (128, 13, 13),
    "conv5_pool": (128, 6, 6),
    "flatten": (4608,),
    "fc6": (2048,),
    "fc7": (2048,),
    "fc8": (1000,),
}

LAYER_ORDER = {
    "source-2010": "conv1_pad conv1 conv1_lrn conv1_pool conv1_relu "
    "conv2 conv2_relu conv2_lrn conv2_local_norm conv2_pool conv3 conv3_relu conv4 conv4_relu "
    "conv5 conv5_pool conv5_relu flatten fc6 fc6_relu fc6_dropout fc7 fc7_relu fc7_dropout fc8",
    "paper": "conv1_pad conv1 conv1_relu conv1_lrn conv1_pool "
    "conv2 conv2_relu conv2_lrn conv2_pool conv3 conv3_relu conv4 conv4_relu "
    "conv5 conv5_relu conv5_pool flatten fc6 fc6_relu fc6_dropout fc7 fc7_relu fc7_dropout fc8",
    "tutorial-half": "conv1 conv1_relu conv1_pool conv2 conv2_relu conv2_pool conv3 conv3_relu conv4 conv4_relu "
    "conv5 conv5_relu conv5_pool conv5_dropout flatten fc6 fc6_relu fc6_dropout fc7 fc7_relu fc8",
}
LAYER_ORDER["source-2012"] = LAYER_ORDER["source-2010"]


def get_config(name: str, *, width: float = 1.0) -> ExperimentConfig:
    config = EXPERIMENTS[name].config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, width=width))


def build(name: str, *, width: float = 1.0, seed: int = 0) -> AlexNet:
    config = get_config(name, width=width)
    return build_alexnet(config.model, input_pixels=config.augment.input_pixels, seed=seed)


def describe(name: str):
    return describe_layers(EXPERIMENTS[name].config.model, input_pixels=224)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_output_shapes_are_those_of_the_table(name):
    expected = TUTORIAL_HALF_SHAPES if name == "tutorial-half" else TWO_TOWER_SHAPES
    found = {row.name: row.output_shape for row in describe(name)}
    assert {layer: found[layer] for layer in expected} == expected


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_layers_come_in_the_order_of_the_description(name):
    assert [row.name for row in describe(name)] == LAYER_ORDER[name].split()


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_the_network_of_the_paper_has_60965224_parameters_and_659272_neurons(name):
    rows = describe(name)
    assert sum(row.num_parameters for row in rows) == 60_965_224
    neurons = sum(math.prod(row.output_shape) for row in rows if row.num_parameters)
    assert neurons == NEURONS == 659_272


def test_tutorial_half_has_the_parameters_of_its_table():
    convs = [(48, 3 * 11 * 11), (128, 48 * 5 * 5), (192, 128 * 3 * 3), (192, 192 * 3 * 3), (128, 192 * 3 * 3)]
    linears = [(2048, 4608), (2048, 2048), (1000, 2048)]
    expected = [outputs * inputs + outputs for outputs, inputs in convs + linears]
    assert [row.num_parameters for row in describe("tutorial-half") if row.num_parameters] == expected


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


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_real_batches_take_the_shapes_that_the_table_says(name):
    network = build(name, width=0.125).eval()
    assert network(torch.zeros(2, 3, 224, 224)).shape == (2, 1000)


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


@pytest.mark.parametrize(("name", "conv345_std"), [("source-2012", 0.03), ("paper", 0.01)])
def test_initial_weights_and_biases_are_those_of_section_5(name, conv345_std):
    network = build(name)
    stds = dict.fromkeys(("conv1", "conv2", "fc6", "fc7", "fc8"), 0.01)
    stds |= dict.fromkeys(("conv3", "conv4", "conv5"), conv345_std)
    biases = {"conv1": 0, "conv2": 1, "conv3": 0, "conv4": 1, "conv5": 1, "fc6": 1, "fc7": 1, "fc8": 0}
    for layer, std in stds.items():
        weight = network.get_parameter(f"{layer}.weight")
        assert weight.std().item() == pytest.approx(std, rel=0.02), layer
        assert weight.mean().item() == pytest.approx(0, abs=6 * std / math.sqrt(weight.numel())), layer
        assert torch.equal(network.get_parameter(f"{layer}.bias"), torch.full((len(weight),), float(biases[layer])))


def test_initial_weights_of_tutorial_half_are_kaiming_by_fan_out():
    network = build("tutorial-half")
    kernels, sizes = (48, 128, 192, 192, 128), (11, 5, 3, 3, 3)
    stds = {f"conv{i + 1}": math.sqrt(2 / (kernels[i] * sizes[i] ** 2)) for i in range(5)}
    for layer, std in (stds | dict.fromkeys(("fc6", "fc7", "fc8"), 0.01)).items():
        assert network.get_parameter(f"{layer}.weight").std().item() == pytest.approx(std, rel=0.02), layer
        assert not network.get_parameter(f"{layer}.bias").any(), layer


def test_the_seed_alone_decides_the_initial_weights():
    torch.manual_seed(1)
    first = build("source-2012", width=0.125, seed=5).state_dict()
    torch.manual_seed(2)
    again = build("source-2012", width=0.125, seed=5).state_dict()
    other = build("source-2012", width=0.125, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first if name.endswith("weight"))


def test_dropout_is_a_bare_mask_in_source_and_paper_and_inverted_in_the_tutorial():
    for name in TWO_TOWERS:
        layer = build(name, width=0.125).fc6_dropout
        assert isinstance(layer, MaskDropout)
        assert layer.rate == 0.5
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
