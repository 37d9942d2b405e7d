"""Momentum as in 2012: v ← 0.9·v − 0.0005·ε·w − ε·gradient, w ← w + v, with rates of their own for biases (§5)."""

from typing import Any

import torch
from torch import nn

from pipeline.config import OptimizerConfig
from pipeline.train.schedule import Rates


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.SGD:
    """SGD with one group each for weights, biases, and both of the first convolution."""
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        layer, kind = name.rsplit(".", 1)
        role = ("conv1_" if layer == "conv1" else "") + ("biases" if kind == "bias" else "weights")
        decay = config.bias_weight_decay if kind == "bias" else config.weight_decay
        group = groups.setdefault(role, {"role": role, "weight_decay": decay, "buffer_lr": None, "params": []})
        group["params"].append(parameter)
    return torch.optim.SGD(list(groups.values()), lr=0.0, momentum=config.momentum, fused=True)


def set_rates(optimizer: torch.optim.SGD, rates: Rates, *, lr_in_momentum: bool) -> None:
    """Set each group's rate for the coming steps.

    PyTorch multiplies the momentum buffer by the rate of the day. In 2012 the rate went into the buffer, so that a drop
    left past steps as large as they were: the same follows here from scaling the buffer by old rate / new rate.
    """
    for group in optimizer.param_groups:
        rate = _pick_rate(group["role"], rates)
        group["lr"] = rate
        if rate == 0:
            continue
        if lr_in_momentum and group["momentum"] > 0 and group["buffer_lr"] not in (None, rate):
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"].mul_(group["buffer_lr"] / rate)
        group["buffer_lr"] = rate


def _pick_rate(role: str, rates: Rates) -> float:
    match role:
        case "weights":
            return rates.weights
        case "conv1_weights":
            return rates.conv1
        case "conv1_biases" if rates.conv1 == 0:
            return 0.0  # a frozen layer keeps its biases too
        case _:
            return rates.biases


def drop_frozen_gradients(optimizer: torch.optim.SGD) -> None:
    """Remove the gradients of groups whose rate is 0, so that not even their momentum moves."""
    for group in optimizer.param_groups:
        if group["lr"] == 0:
            for parameter in group["params"]:
                parameter.grad = None
