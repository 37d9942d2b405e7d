"""A GPU makes steps faster, never different beyond rounding, and is never waited for between reports."""

import dataclasses

import pytest
import torch
from trainees import RATES, build_trainee, copy_state, paint_batch

from pipeline.augment.loader import Batch
from pipeline.config import Precision
from pipeline.experiments import get_experiment
from pipeline.model.precision import use_tensor_cores
from pipeline.train.optimizer import build_optimizer, set_rates
from pipeline.train.step import Stepper

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda", 0)
NUM_STEPS = 3
TOLERANCES: dict[Precision, float] = {"float32": 1e-5, "tf32": 2e-3, "bfloat16": 2e-2, "float16": 5e-3}
"""Largest distance of any layer's change from the CPU's, as a share of the weights' norm."""


def move(batch: Batch, device: torch.device, layout: torch.memory_format = torch.contiguous_format) -> Batch:
    images = batch.images.to(device, memory_format=layout)
    return dataclasses.replace(batch, images=images, labels=batch.labels.to(device))


def build(device: torch.device, precision: Precision, layout: torch.memory_format) -> Stepper:
    network = build_trainee().to(device, memory_format=layout).train()
    optimizer = build_optimizer(network, get_experiment("source-2012").config.optimizer)
    set_rates(optimizer, RATES, lr_in_momentum=True)
    return Stepper(network, optimizer, precision=precision, device=device)


def train(device: torch.device, precision: Precision, layout: torch.memory_format) -> dict[str, torch.Tensor]:
    use_tensor_cores(enabled=precision == "tf32")
    stepper = build(device, precision, layout)
    if precision == "float16":  # so that no step is left out while the scale of the loss is found
        stepper.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**8)
    for step in range(NUM_STEPS):
        stepper.take(move(paint_batch(step), device, layout))
    use_tensor_cores(enabled=False)
    return {name: value.cpu() for name, value in copy_state(stepper.network).items()}


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    """Weights after three steps on the CPU."""
    return train(torch.device("cpu"), "float32", torch.contiguous_format)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_three_steps_are_those_of_the_cpu(expected, precision, layout):
    found = train(CUDA, precision, layout)
    furthest = max(((found[name] - value).norm() / value.norm()).item() for name, value in expected.items())
    assert furthest < TOLERANCES[precision]


def test_steps_never_wait_for_the_gpu():
    stepper = build(CUDA, "float32", torch.contiguous_format)
    batch = move(paint_batch(), CUDA)
    stepper.take(batch)  # the first one chooses algorithms
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        sums = [torch.stack([value.double() for value in stepper.take(batch)]) for _ in range(NUM_STEPS)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cat(sums).isfinite().all()


def test_a_broken_step_changes_nothing_on_the_gpu():
    stepper = build(CUDA, "float32", torch.contiguous_format)
    before = copy_state(stepper.network)
    broken = move(paint_batch(), CUDA)
    broken.images[0, 0, 0, 0] = torch.inf
    stepper.take(broken)
    stepper.take(move(paint_batch(), CUDA))
    assert all(torch.equal(value, before[name]) for name, value in copy_state(stepper.network).items())


@pytest.mark.slow
def test_a_compiled_network_takes_the_same_steps(expected):
    stepper = build(CUDA, "float32", torch.channels_last)
    stepper.network.compile()
    for step in range(NUM_STEPS):
        stepper.take(move(paint_batch(step), CUDA, torch.channels_last))
    found = {name: value.cpu() for name, value in copy_state(stepper.network).items()}
    furthest = max(((found[name] - value).norm() / value.norm()).item() for name, value in expected.items())
    assert furthest < TOLERANCES["float32"]
