"""Momentum, decay, rates and LARS against transcriptions of the update rules in NumPy."""

import dataclasses
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.config import OptimizerConfig, ScheduleConfig
from pipeline.experiments import get_experiment
from pipeline.model.alexnet import AlexNet, build_alexnet
from pipeline.train.optimizer import build_optimizer, drop_frozen_gradients, scale_by_trust, set_rates
from pipeline.train.schedule import Rates, compute_rates

START = Rates(weights=0.01, biases=0.02, conv1=0.01, head=0.01)
DROPPED = Rates(weights=0.001, biases=0.002, conv1=0.001, head=0.001)
SLOW_CONV1 = Rates(weights=0.0001, biases=0.002, conv1=1e-5, head=0.0001)
FROZEN_CONV1 = Rates(weights=0.0001, biases=0.002, conv1=0.0, head=0.0001)
THAWED = Rates(weights=0.0003, biases=0.002, conv1=0.0003, head=0.0003)
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


def test_a_layer_frozen_from_the_start_has_a_momentum_of_0_and_can_be_thawed():
    network = build_network()
    optimizer = build_optimizer(network, OptimizerConfig())
    before = read_values(network)
    take_steps(network, optimizer, 18, 24, lr_in_momentum=True)
    assert np.array_equal(read_values(network)["conv1.weight"], before["conv1.weight"])
    assert not optimizer.state[network.conv1.weight]["momentum_buffer"].any()
    take_steps(network, optimizer, 24, 25, lr_in_momentum=True)
    step = -0.0003 * (draw_gradients(network, 24)["conv1.weight"] + 0.0005 * before["conv1.weight"])
    np.testing.assert_allclose(read_values(network)["conv1.weight"], before["conv1.weight"] + step, rtol=1e-12)


NET_145 = get_experiment("source-2010").config
INPUT_PIXELS = 68
SQUEEZED = ScheduleConfig(
    epochs=10,
    weights=((0, 0.01), (3, 0.001), (6, 0.0001)),
    biases=((0, 0.02), (3, 0.002)),
    conv1=((0, 0.01), (3, 0.001), (6, 1e-5), (8, 0.0)),
)
"""Net 145's changes of rate, epochs of ten steps apart."""


@pytest.fixture
def network() -> AlexNet:
    """Net 145, narrow, for five classes, in double precision and without dropout's chance."""
    model = dataclasses.replace(NET_145.model, width=0.125, num_classes=5, dropout=0.0)
    return build_alexnet(model, input_pixels=INPUT_PIXELS, seed=1).double()


def compute_gradients(network: nn.Module, step: int) -> None:
    """The gradient of the mean loss of eight pictures, other ones at each step."""
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(8, 3, INPUT_PIXELS, INPUT_PIXELS, generator=generator, dtype=torch.float64).mul_(50)
    network.zero_grad()
    F.cross_entropy(network(images), torch.randint(5, (8,), generator=generator)).backward()


def test_a_hundred_steps_of_net_145_are_those_of_its_update_rule(network):
    optimizer = build_optimizer(network, NET_145.optimizer)
    w = read_values(network)
    v = {name: np.zeros_like(value) for name, value in w.items()}
    start, frozen = read_values(network), {}
    for step in range(100):
        epsilon = {
            "weight": 0.01 if step < 30 else 0.001 if step < 60 else 0.0001,
            "bias": 0.02 if step < 30 else 0.002,
        }
        rates = compute_rates(SQUEEZED, step=step, steps_per_epoch=10, global_batch_size=128, evaluations=())
        set_rates(optimizer, rates, lr_in_momentum=NET_145.optimizer.lr_in_momentum)
        compute_gradients(network, step)
        for name, parameter in network.named_parameters():
            kind = name.split(".")[1]
            ε, decay = epsilon[kind], 0.0005 if kind == "weight" else 0.0  # noqa: PLC2401 - as it is written
            if name == "conv1.weight" and step >= 60:
                ε = 1e-5  # noqa: PLC2401
            if name.startswith("conv1.") and step >= 80:
                frozen.setdefault(name, w[name].copy())
                continue
            v[name] = 0.9 * v[name] - decay * ε * w[name] - ε * parameter.grad.numpy()
            w[name] = w[name] + v[name]
        drop_frozen_gradients(optimizer)
        optimizer.step()
    for name, value in read_values(network).items():
        moved = np.abs(w[name] - start[name]).max()
        assert moved > 0, name
        np.testing.assert_allclose(value, w[name], rtol=0, atol=1e-9 * moved, err_msg=name)
    assert [*frozen] == ["conv1.weight", "conv1.bias"]
    for name, value in frozen.items():
        assert np.array_equal(w[name], value), name


def test_the_head_has_a_rate_of_its_own_and_features_learn_at_their_share(network):
    optimizer = build_optimizer(network, OptimizerConfig(momentum=0.0, weight_decay=0.0))
    before = read_values(network)
    set_rates(optimizer, Rates(weights=0.01, biases=0.02, conv1=0.004, head=0.1, features=0.25), lr_in_momentum=True)
    compute_gradients(network, 0)
    optimizer.step()
    expected = {"conv1": (0.001, 0.005), "fc6": (0.01, 0.02), "fc7": (0.01, 0.02), "fc8": (0.1, 0.02)}
    for name, parameter in network.named_parameters():
        layer, kind = name.split(".")
        of_weights, of_biases = expected.get(layer, (0.0025, 0.005))
        step = parameter.grad.numpy() * (of_weights if kind == "weight" else of_biases)
        np.testing.assert_allclose(before[name] - read_values(network)[name], step, rtol=1e-9, atol=1e-15, err_msg=name)


def test_features_at_0_keep_every_convolution_to_the_bit_while_the_rest_learns(network):
    optimizer = build_optimizer(network, OptimizerConfig())
    before = read_values(network)
    for step in range(3):
        set_rates(optimizer, dataclasses.replace(START, features=0.0), lr_in_momentum=True)
        compute_gradients(network, step)
        drop_frozen_gradients(optimizer)
        optimizer.step()
    for name, value in read_values(network).items():
        assert np.array_equal(value, before[name]) == name.startswith("conv"), name


def test_lars_takes_steps_of_a_share_of_each_weights_norm(network):
    config = OptimizerConfig(momentum=0.9, weight_decay=0.0005, lr_in_momentum=False, lars=0.001)
    optimizer = build_optimizer(network, config)
    with torch.no_grad():
        network.conv3.weight.zero_()  # has no norm to take a share of
    w = read_values(network)
    v = {name: np.zeros_like(value) for name, value in w.items()}
    for step in range(10):
        set_rates(optimizer, START if step < 5 else DROPPED, lr_in_momentum=False)
        rates = START if step < 5 else DROPPED
        compute_gradients(network, step)
        for name, parameter in network.named_parameters():
            gradient, lr = parameter.grad.numpy(), rates.biases
            if name.endswith("weight"):
                size, lr = np.linalg.norm(w[name]), rates.weights
                trust = 0.001 * size / (np.linalg.norm(gradient) + 0.0005 * size) if size > 0 else 1.0
                gradient = trust * (gradient + 0.0005 * w[name])
            v[name] = 0.9 * v[name] + gradient
            w[name] = w[name] - lr * v[name]
        scale_by_trust(optimizer, 0.001)
        optimizer.step()
    for name, value in read_values(network).items():
        np.testing.assert_allclose(value, w[name], rtol=1e-9, atol=1e-13, err_msg=name)


def test_lars_leaves_weights_as_they_are_that_nothing_pulls_at(network):
    optimizer = build_optimizer(network, OptimizerConfig(weight_decay=0.0, lars=0.001))
    set_rates(optimizer, START, lr_in_momentum=False)
    compute_gradients(network, 0)
    network.fc7.weight.grad.zero_()
    before = read_values(network)
    scale_by_trust(optimizer, 0.001)
    optimizer.step()
    assert np.array_equal(read_values(network)["fc7.weight"], before["fc7.weight"])
    assert not np.array_equal(read_values(network)["fc6.weight"], before["fc6.weight"])
