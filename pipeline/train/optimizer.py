"""Momentum as in 2012: v ← 0.9·v − 0.0005·ε·w − ε·gradient, w ← w + v, with rates of their own for biases (§5)."""

from typing import Any

import torch
from torch import nn

from pipeline.config import OptimizerConfig
from pipeline.train.schedule import Rates


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.SGD:
    """SGD with a group each for weights and biases of the first convolution, the others, the linear layers, the last.

    Momentum begins at zero in every layer, so that a step that is left out leaves nothing undefined behind.
    """
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    groups: dict[str, dict[str, Any]] = {}
    for name, layer in layers:
        place = "convs" if isinstance(layer, nn.Conv2d) else "linears"
        place = {"conv1": "conv1", layers[-1][0]: "head"}.get(name, place)
        for kind, parameter in (("weights", layer.weight), ("biases", layer.bias)):
            decay = config.weight_decay if kind == "weights" else config.bias_weight_decay
            new = {"place": place, "kind": kind, "weight_decay": decay, "buffer_lr": None, "params": []}
            groups.setdefault(f"{place} {kind}", new)["params"].append(parameter)
    optimizer = torch.optim.SGD(list(groups.values()), lr=0.0, momentum=config.momentum, fused=True)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if config.momentum > 0:
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_rates(optimizer: torch.optim.SGD, rates: Rates, *, lr_in_momentum: bool) -> None:
    """Set each group's rate for the coming steps.

    PyTorch multiplies the momentum buffer by the rate of the day. In 2012 the rate went into the buffer, so that a drop
    left past steps as large as they were: the same follows here from scaling the buffer by old rate / new rate.
    """
    for group in optimizer.param_groups:
        rate = _pick_rate(group["place"], group["kind"], rates)
        group["lr"] = rate
        if rate == 0:
            continue
        if lr_in_momentum and group["momentum"] > 0 and group["buffer_lr"] not in (None, rate):
            buffers = [optimizer.state[parameter]["momentum_buffer"] for parameter in group["params"]]
            torch._foreach_mul_(buffers, group["buffer_lr"] / rate)
        group["buffer_lr"] = rate


def _pick_rate(place: str, kind: str, rates: Rates) -> float:
    if place == "conv1" and rates.conv1 == 0:
        return 0.0  # a frozen layer keeps its biases, too
    of_weights = {"conv1": rates.conv1, "head": rates.head}.get(place, rates.weights)
    share = rates.features if place in ("conv1", "convs") else 1.0
    return share * (of_weights if kind == "weights" else rates.biases)


def drop_frozen_gradients(optimizer: torch.optim.SGD) -> None:
    """Remove the gradients of groups whose rate is 0, so that not even their momentum moves."""
    for group in optimizer.param_groups:
        if group["lr"] == 0:
            for parameter in group["params"]:
                parameter.grad = None


def scale_by_trust(optimizer: torch.optim.SGD, coefficient: float) -> None:
    """LARS (You et al. 2017): bring each weight's gradient, decay included, to a share of the weight's own norm.

    The gradient becomes g · c·‖w‖ / (‖g‖ + decay·‖w‖), and so does the decay; biases, and weights that are all
    zero or that nothing pulls at, keep theirs. Nothing is read back from the device.
    """
    for group in optimizer.param_groups:
        moved = [parameter for parameter in group["params"] if parameter.grad is not None]
        if group["kind"] != "weights" or not moved:
            continue
        for weight in moved:
            norm, decay = weight.norm(), group["weight_decay"]
            pull = weight.grad.norm() + decay * norm
            trust = torch.where((norm > 0) & (pull > 0), coefficient * norm / pull, 1.0)
            # SGD is about to add decay·w once more: what it adds must grow by the trust, too
            weight.grad.add_(weight.detach(), alpha=decay).mul_(trust).sub_(weight.detach(), alpha=decay)
