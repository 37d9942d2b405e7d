"""Momentum, decay and rates against a transcription of 2012's update rule."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config import OptimizerConfig
from pipeline.train.optimizer import build_optimizer, drop_frozen_gradients, set_rates
from pipeline.train.schedule import Rates

START = Rates(weights=0.01, biases=0.02, conv1=0.01)
DROPPED = Rates(weights=0.001, biases=0.002, conv1=0.001)
SLOW_CONV1 = Rates(weights=0.0001, biases=0.002, conv1=1e-5)
FROZEN_CONV1 = Rates(weights=0.0001, biases=0.002, conv1=0.0)
THAWED = Rates(weights=0.0003, biases=0.002, conv1=0.0003)
NUM_STEPS = 30


def build_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = OrderedDict(conv1=nn.Conv2d(2, 3, 3), flatten=nn.Flatten(), fc8=nn.Linear(12, 5))
    return nn.Sequential(layers).double()


def get_rates(step: int) -> Rates:
    return ((START, DROPPED, SLOW_CONV1, FROZEN_CONV1, THAWED))[step // 6]


def draw_gradients(network: nn.Module, step: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(step)
    return {name: generator.normal(0, 1, value.shape) for name, value in network.named_parameters()}


def read_values(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in network.named_parameters()}


def take_steps(network: nn.Module, optimizer: torch.optim.SGD, first: int, last: int, *, lr_in_momentum: bool) -> None:
    for step in range(first, last):
        set_rates(optimizer, get_rates(step), lr_in_momentum=lr_in_momentum)
        gradients = draw_gradients(network, step)
        for name, parameter in network.named_parameters():
            parameter.grad = torch.from_numpy(gradients[name])
        drop_frozen_gradients(optimizer)
        optimizer.step()


def get_rate(name: str, rates: Rates) -> float:
    if name == "conv1.weight" or (name == "conv1.bias" and rates.conv1 == 0):
        return rates.conv1
    return rates.biases if name.endswith("bias") else rates.weights


@pytest.mark.parametrize("bias_weight_decay", [0.0, 0.3])
def test_thirty_steps_are_those_of_2012_through_every_change_of_rate(bias_weight_decay):
    config = OptimizerConfig(momentum=0.9, weight_decay=0.5, bias_weight_decay=bias_weight_decay, lr_in_momentum=True)
    network = build_network()
    w = read_values(network)
    v = {name: np.zeros_like(value) for name, value in w.items()}
    for step in range(NUM_STEPS):
        for name, gradient in draw_gradients(network, step).items():
            lr = get_rate(name, get_rates(step))
            if lr == 0:
                continue  # a layer whose rate is 0 is not updated at all
            decay = bias_weight_decay if name.endswith("bias") else 0.5
            v[name] = 0.9 * v[name] - decay * lr * w[name] - lr * gradient
            w[name] = w[name] + v[name]
    take_steps(network, build_optimizer(network, config), 0, NUM_STEPS, lr_in_momentum=True)
    for name, value in read_values(network).items():
        np.testing.assert_allclose(value, w[name], rtol=1e-10, atol=1e-12, err_msg=name)


def test_a_drop_leaves_past_steps_as_large_as_they_were_only_when_the_rate_is_in_the_momentum():
    moved = {}
    for lr_in_momentum in (True, False):
        network = build_network()
        optimizer = build_optimizer(network, OptimizerConfig(weight_decay=0.0))
        take_steps(network, optimizer, 0, 6, lr_in_momentum=lr_in_momentum)
        before = read_values(network)["fc8.weight"]
        take_steps(network, optimizer, 6, 7, lr_in_momentum=lr_in_momentum)
        moved[lr_in_momentum] = np.abs(read_values(network)["fc8.weight"] - before).mean()
    assert moved[True] > 5 * moved[False]


def test_with_the_rate_outside_the_momentum_it_is_the_sgd_of_torch():
    config = OptimizerConfig(momentum=0.9, weight_decay=0.5, bias_weight_decay=0.1, lr_in_momentum=False)
    network, reference = build_network(), build_network()
    named = list(reference.named_parameters())
    plain = torch.optim.SGD(
        [{"params": [value], "weight_decay": 0.1 if name.endswith("bias") else 0.5} for name, value in named],
        lr=0.0,
        momentum=0.9,
    )
    take_steps(network, build_optimizer(network, config), 0, 18, lr_in_momentum=False)
    for step in range(18):
        gradients = draw_gradients(reference, step)
        for group, (name, parameter) in zip(plain.param_groups, named, strict=True):
            group["lr"] = get_rate(name, get_rates(step))
            parameter.grad = torch.from_numpy(gradients[name])
        plain.step()
    for name, value in read_values(network).items():
        np.testing.assert_allclose(value, read_values(reference)[name], rtol=1e-12, err_msg=name)


def test_a_frozen_first_layer_keeps_weights_biases_and_momentum_to_the_bit():
    network = build_network()
    optimizer = build_optimizer(network, OptimizerConfig())
    take_steps(network, optimizer, 0, 18, lr_in_momentum=True)

    def read_all() -> dict[str, torch.Tensor]:
        return {
            f"{name} {kind}": tensor.detach().clone()
            for name, value in network.named_parameters()
            for kind, tensor in (("value", value), ("momentum", optimizer.state[value]["momentum_buffer"]))
        }

    before = read_all()
    take_steps(network, optimizer, 18, 24, lr_in_momentum=True)
    for name, tensor in read_all().items():
        assert torch.equal(tensor, before[name]) == name.startswith("conv1."), name


def test_a_layer_frozen_from_the_start_has_no_momentum_and_can_be_thawed():
    network = build_network()
    optimizer = build_optimizer(network, OptimizerConfig())
    before = read_values(network)
    take_steps(network, optimizer, 18, 24, lr_in_momentum=True)
    assert np.array_equal(read_values(network)["conv1.weight"], before["conv1.weight"])
    assert network.conv1.weight not in optimizer.state
    take_steps(network, optimizer, 24, 25, lr_in_momentum=True)
    step = -0.0003 * (draw_gradients(network, 24)["conv1.weight"] + 0.0005 * before["conv1.weight"])
    np.testing.assert_allclose(read_values(network)["conv1.weight"], before["conv1.weight"] + step, rtol=1e-12)
