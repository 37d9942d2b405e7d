"""The table of layers: counts and shapes by hand and of the tutorials, receptive fields by hand and by gradient."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from pipeline.config import ConvConfig, LinearConfig, ModelConfig
from pipeline.experiments import EXPERIMENTS
from pipeline.model.alexnet import AlexNet, build_alexnet
from pipeline.model.describe import LayerRow, describe_layers, format_layers
from pipeline.paper import NEURONS

TUTORIAL_SHAPES = {
    "tutorial-d2l": "96×54×54 96×26×26 256×26×26 256×12×12 384×12×12 384×12×12 256×12×12 256×5×5 6400 4096 4096 10",
    "tutorial-d2l-28": "96×28×28 96×26×26 256×26×26 256×12×12 384×12×12 384×12×12 256×12×12 256×5×5 6400 4096 4096 10",
    "tutorial-half": "48×55×55 48×27×27 128×27×27 128×13×13 192×13×13 192×13×13 128×13×13 128×6×6 4608 2048 2048 1000",
    "tutorial-one-tower": "96×55×55 96×27×27 256×27×27 256×13×13 384×13×13 384×13×13 256×13×13 256×6×6 "
    "9216 4096 4096 1000",
}
FIELDS = {  # the norm within maps reaches two maps' pixels further on each side: 4 · 8 pixels from conv2 on
    "paper": {"conv1": 11, "conv1_pool": 19, "conv2": 51, "conv2_pool": 67, "conv3": 99, "conv4": 131, "conv5": 163},
    "source-2012": {"conv1": 11, "conv2": 51, "conv2_local_norm": 83, "conv3": 131, "conv4": 163, "conv5": 195},
    "tutorial-d2l-28": {"conv1": 5, "conv1_pool": 7, "conv2": 11, "conv3": 17, "conv4": 21, "conv5": 25},
}
CEILING = ModelConfig(
    convs=(
        ConvConfig(name="conv1", kernels=4, size=4, stride=3, padding=(0, 2), after=("tanh", "pool")),
        ConvConfig(name="conv2", kernels=4, size=3, padding=(1, 1), after=("pool", "local_norm"), pool_stride=1),
    ),
    linears=(LinearConfig(name="fc3", units=None, after=()),),
    num_classes=5,
    pool_size=2,
    pool_ceil=True,
)

GAPS = dataclasses.replace(  # windows at rows -1, 7, 15 and 23: nobody sees rows 26 and 27
    CEILING, convs=(ConvConfig(name="conv1", kernels=4, size=3, stride=8, padding=(1, 1)),)
)


def describe(name: str) -> list[LayerRow]:
    config = EXPERIMENTS[name].config
    return describe_layers(config.model, input_pixels=config.augment.input_pixels)


def by_name(rows: list[LayerRow]) -> dict[str, LayerRow]:
    return {row.name: row for row in rows}


def test_source_2012_has_60965224_parameters_and_659272_neurons():
    rows = describe("source-2012")
    assert sum(row.num_parameters for row in rows) == 60_965_224
    assert sum(row.num_neurons for row in rows) == NEURONS == 659_272


@pytest.mark.parametrize("name", TUTORIAL_SHAPES)
def test_shapes_are_those_of_the_tutorials_table(name):
    told = [row for row in describe(name) if row.kind in {"Conv2d", "MaxPool2d", "Flatten", "Linear"}]
    assert ["×".join(map(str, row.output_shape)) for row in told] == TUTORIAL_SHAPES[name].split()


def test_tutorial_d2l_keeps_most_parameters_in_fc6_and_most_work_in_conv2():
    rows = describe("tutorial-d2l")
    assert max(rows, key=lambda row: row.num_parameters).name == "fc6"
    assert by_name(rows)["fc6"].num_parameters == 6400 * 4096 + 4096 == 26_218_496
    assert max(rows, key=lambda row: row.num_multiply_adds).name == "conv2"
    assert by_name(rows)["conv2"].num_multiply_adds == 256 * 26 * 26 * 96 * 5 * 5


def test_bytes_are_those_of_float32_and_nothing_for_what_reuses_its_input():
    rows = by_name(describe("source-2012"))
    assert rows["conv1"].activation_bytes == 96 * 55 * 55 * 4
    assert rows["conv1_relu"].activation_bytes == rows["flatten"].activation_bytes == 0
    assert rows["fc6"].weight_bytes == (9216 * 4096 + 4096) * 4
    assert rows["fc6"].update_bytes == 2 * rows["fc6"].weight_bytes
    assert rows["conv1_lrn"].weight_bytes == rows["conv1_lrn"].update_bytes == 0


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields_are_those_counted_by_hand(name):
    rows = by_name(describe(name))
    assert {layer: rows[layer].receptive_pixels for layer in FIELDS[name]} == FIELDS[name]


def test_linear_layers_see_the_input_once():
    rows = by_name(describe("source-2012"))
    assert {rows[name].receptive_pixels for name in ("fc6", "fc7_dropout", "fc8")} == {224}
    assert rows["flatten"].receptive_pixels == rows["conv5_relu"].receptive_pixels == 227  # zeros beyond the picture
    assert rows["fc6"].jump_pixels is None


def blur(network: AlexNet) -> AlexNet:
    """The network with layers in which every input counts: means in the place of maxima, no ReLU, positive weights."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.MaxPool2d):
            network.set_submodule(name, nn.AvgPool2d(layer.kernel_size, layer.stride, ceil_mode=layer.ceil_mode))
        elif isinstance(layer, nn.ReLU | nn.Tanh):
            network.set_submodule(name, nn.Identity())
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5, generator=torch.Generator().manual_seed(parameter.numel()))
        parameter.data /= parameter[0].numel()
    return network.eval()


def find_seen(images: torch.Tensor, output: torch.Tensor, row: int) -> tuple[int, int]:
    """First row of pixels that a unit of the middle column depends on, and the number of rows to the last one."""
    unit = output[0, 0, row, output.shape[-1] // 2] if output.dim() == 4 else output[0, 0]
    (gradient,) = torch.autograd.grad(unit, images, retain_graph=True)
    seen = gradient[0].abs().sum((0, 2)).nonzero().flatten()
    return int(seen[0]), int(seen[-1] - seen[0]) + 1


@pytest.mark.parametrize(
    ("model", "input_pixels"),
    [
        (dataclasses.replace(EXPERIMENTS["source-2012"].config.model, width=0.0625), 384),
        (dataclasses.replace(EXPERIMENTS["paper"].config.model, width=0.0625), 384),
        (CEILING, 61),
        (GAPS, 28),
    ],
    ids=["source-2012", "paper", "ceil mode", "gaps"],
)
def test_gradients_reach_as_many_pixels_as_the_table_says(model, input_pixels):
    rows = by_name(describe_layers(model, input_pixels=input_pixels))
    network = blur(build_alexnet(model, input_pixels=input_pixels, seed=0)).double()
    images = torch.ones(1, model.in_channels, input_pixels, input_pixels, dtype=torch.float64, requires_grad=True)
    output = images
    for name, layer in network.named_children():
        output = layer(output)
        assert output.shape[1:] == rows[name].output_shape
        if isinstance(layer, nn.Flatten):
            continue  # its first unit is one of the maps' corner
        middle = output.shape[2] // 2 if output.dim() == 4 else 0
        begin, size = find_seen(images, output, middle)
        assert size == rows[name].receptive_pixels, name
        if output.dim() == 4:
            assert begin - find_seen(images, output, middle - 1)[0] == rows[name].jump_pixels, name


def test_the_table_for_people_answers_the_questions_and_ends_with_the_totals():
    lines = format_layers(describe("source-2012")).splitlines()
    assert lines[0] == (
        "659,272 neurons; fc6 holds most parameters (37,752,832, 62%); "
        "conv2 takes most multiply-adds (223,948,800, 31%). One picture, float32:"
    )
    assert lines[-1].split()[:3] == ["total", "60,965,224", "724,406,816"]
    (conv1,) = [line for line in lines if line.startswith("conv1 ")]
    assert " ".join(conv1.split()) == "conv1 Conv2d 96×55×55 11 4 34,944 105,415,200 1,134.4 136.5 273.0"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_described(name):
    rows = describe(name)
    assert rows[-1].output_shape == (EXPERIMENTS[name].config.model.num_classes,)
    assert math.prod(rows[0].output_shape) > 0
    assert format_layers(rows)
