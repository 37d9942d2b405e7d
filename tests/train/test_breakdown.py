"""A loss that is no number is traced to images, weights, outputs or gradients, and to the layer."""

import dataclasses

import pytest
import torch
from trainees import build_trainee, paint_batch, spoil

from pipeline.train.breakdown import find_break


@pytest.fixture
def network():
    return build_trainee().train()


def test_a_sound_step_has_no_break_and_leaves_no_gradient(network):
    assert find_break(network, paint_batch(), "float32") is None
    assert all(parameter.grad is None for parameter in network.parameters())


def test_broken_images_are_named_before_anything_that_they_break(network):
    assert find_break(network, spoil(paint_batch()), "float32") == "the images themselves"


@pytest.mark.parametrize("name", ["conv1", "conv4", "fc7"])
def test_the_first_layer_with_broken_weights_is_named(network, name):
    with torch.no_grad():
        network.get_submodule(name).weight.view(-1)[3] = torch.nan
        network.fc8.bias[0] = torch.inf
    assert find_break(network, paint_batch(), "float32") == f"the weights of {name}"


def test_outputs_that_overflow_are_named_with_the_first_layer_that_has_them(network):
    with torch.no_grad():
        network.conv3.weight.fill_(1e38)
    assert find_break(network, paint_batch(), "float32") == "the outputs of conv3"


def test_outputs_that_overflow_in_float16_alone_are_found_in_float16_alone(network):
    with torch.no_grad():
        network.fc6.weight.fill_(5e3)
        network.fc7.weight.zero_()
    assert find_break(network, paint_batch(), "float16") == "the outputs of fc6"
    assert find_break(network, paint_batch(), "float32") is None


def test_a_gradient_that_breaks_is_named_by_the_parameter_nearest_to_the_loss(network):
    network.conv4.weight.register_hook(lambda gradient: gradient * torch.nan)
    network.conv2.weight.register_hook(lambda gradient: gradient * torch.inf)
    assert find_break(network, paint_batch(), "float32") == "the gradient of conv4.weight"


def test_a_rank_without_a_picture_finds_nothing(network):
    batch = paint_batch()
    empty = dataclasses.replace(batch, images=batch.images[:0], labels=batch.labels[:0], num_skipped=8)
    assert find_break(network, empty, "float32") is None
