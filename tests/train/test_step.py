"""One step: the same in portions and memory formats, in each precision, without waiting, and not at all when broken."""

import itertools
import shutil

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from trainees import ALONE, build_stepper, build_trainee, copy_state, paint_batch, spoil

from pipeline.augment.loader import Batch
from pipeline.train.loop import run_steps
from pipeline.train.step import Stepper, seed_step


def take_steps(stepper: Stepper, *batches: Batch) -> list[tuple[float, int]]:
    taken = []
    for step, batch in enumerate(batches):
        seed_step(0, step=step, rank=0)
        loss, errors = stepper.take(batch)
        taken.append((loss.item(), errors.item()))
    return taken


def measure_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest distance of any parameter from what is expected, as a share of its norm."""
    assert found.keys() == expected.keys()
    return max(((found[name] - value).norm() / value.norm()).item() for name, value in expected.items())


def read_gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in network.named_parameters()}


@pytest.mark.parametrize("micro_batch", [1, 3, 100])
def test_portions_add_up_to_the_gradients_of_the_whole_batch(micro_batch):
    gradients, taken = [], []
    for portion in (None, micro_batch):
        network = build_trainee()
        taken += take_steps(build_stepper(network, micro_batch=portion), paint_batch())
        gradients.append(read_gradients(network))
    assert taken[1] == (pytest.approx(taken[0][0], rel=1e-6), taken[0][1])
    assert measure_difference(gradients[1], gradients[0]) < 1e-5


def test_portions_are_no_larger_than_asked():
    network = build_trainee()
    sizes = []
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    take_steps(build_stepper(network, micro_batch=3), paint_batch(num_images=8))
    assert sizes == [3, 3, 2]


def test_gradients_are_means_over_the_batch_and_a_damaged_picture_adds_none():
    whole, partial = build_trainee(), build_trainee()
    six = paint_batch(num_images=6)
    take_steps(build_stepper(whole), six)
    take_steps(
        build_stepper(partial), Batch(images=six.images, labels=six.labels, positions=six.positions, num_skipped=2)
    )
    expected = {name: gradient * 6 / 8 for name, gradient in read_gradients(whole).items()}
    assert measure_difference(read_gradients(partial), expected) < 1e-5


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_a_rank_without_a_picture_takes_a_step_of_momentum_and_decay_alone(micro_batch):
    network = build_trainee()
    before = copy_state(network)
    empty = Batch(
        images=torch.empty(0, 3, 68, 68), labels=torch.empty(0, dtype=torch.long), positions=None, num_skipped=4
    )
    assert take_steps(build_stepper(network, micro_batch=micro_batch), empty) == [(0.0, 0)]
    for name, value in copy_state(network).items():
        decay = 0.0005 * 0.001 if name.endswith("weight") else 0.0
        torch.testing.assert_close(value, before[name] * (1 - decay), rtol=1e-6, atol=0)


def test_channels_last_changes_no_more_than_rounding():
    states, taken = [], []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = build_trainee().to(memory_format=layout)
        batches = [paint_batch(seed) for seed in range(5)]
        batches = [
            Batch(images=b.images.contiguous(memory_format=layout), labels=b.labels, positions=b.positions)
            for b in batches
        ]
        taken.append(take_steps(build_stepper(network), *batches))
        states.append(copy_state(network))
    assert measure_difference(states[1], states[0]) < 1e-5
    assert [loss for loss, _ in taken[1]] == pytest.approx([loss for loss, _ in taken[0]], rel=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 0.0), ("bfloat16", 0.03), ("float16", 0.01)])
def test_each_precision_takes_nearly_the_steps_of_float32_with_weights_in_float32(precision, tolerance):
    batches = [paint_batch(seed) for seed in range(5)]
    start, results = copy_state(build_trainee()), {}
    for name in ("float32", precision):
        network, dtypes = build_trainee(), set()
        network.fc6.register_forward_hook(lambda *seen, dtypes=dtypes: dtypes.add(seen[-1].dtype))
        losses = [loss for loss, _ in take_steps(build_stepper(network, precision=name), *batches)]
        assert dtypes == {getattr(torch, name, torch.float32)}
        state = copy_state(network)
        assert {value.dtype for value in state.values()} == {torch.float32}
        results[name] = losses, {key: value - start[key] for key, value in state.items()}
    (expected_losses, expected), (losses, moved) = results.values()
    assert losses == pytest.approx(expected_losses, rel=tolerance, abs=0)
    joined = [torch.cat([value.flatten() for value in all_moved.values()]) for all_moved in (moved, expected)]
    assert (joined[0] - joined[1]).norm() <= 3 * tolerance * joined[1].norm()
    assert (losses == expected_losses) == (tolerance == 0)


def test_in_float16_a_step_that_overflows_is_left_out_and_the_scale_lowered():
    network = build_trainee()
    stepper = build_stepper(network, precision="float16")
    stepper.scaler.load_state_dict(stepper.scaler.state_dict() | {"scale": 2.0**40})
    before = copy_state(network)
    take_steps(stepper, paint_batch())
    assert all(torch.equal(value, before[name]) for name, value in copy_state(network).items())
    assert stepper.scaler.get_scale() == 2.0**39
    stepper.scaler.load_state_dict(stepper.scaler.state_dict() | {"scale": 2.0**10})
    take_steps(stepper, paint_batch())
    assert not any(torch.equal(value, before[name]) for name, value in copy_state(network).items())


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_after_a_broken_step_nothing_changes_any_more(precision):
    network = build_trainee()
    stepper = build_stepper(network, precision=precision)
    take_steps(stepper, paint_batch(0))
    before = copy_state(network)
    momentum = [state["momentum_buffer"].clone() for state in stepper.optimizer.state.values()]
    take_steps(stepper, spoil(paint_batch(1)), paint_batch(2), paint_batch(3))
    for name, value in copy_state(network).items():
        assert torch.equal(value, before[name]), name
    for found, expected in zip(stepper.optimizer.state.values(), momentum, strict=True):
        assert torch.equal(found["momentum_buffer"], expected)


def test_a_broken_step_is_reported_by_its_number_wherever_it_lies_between_reports():
    for broken in range(4):
        batches = [spoil(paint_batch(step)) if step == broken else paint_batch(step) for step in range(6)]
        reports = list(run(build_stepper(build_trainee()), batches, report_every=3, num_steps=6))
        expected = [broken, 3] if broken < 3 else [None, 3]  # nothing is learned after it
        assert [report.broken_step for report in reports] == expected


def run(stepper: Stepper, batches, *, report_every: int, num_steps: int):
    return run_steps(
        stepper,
        batches,
        first_step=0,
        last_step=num_steps,
        seed=0,
        report_every=report_every,
        world=ALONE,
    )


@pytest.mark.parametrize(
    ("precision", "options"), [("float32", {}), ("float32", {"lars": 0.001}), ("bfloat16", {"micro_batch": 4})]
)
def test_no_step_asks_for_a_value_from_the_device_until_the_report(precision, options, monkeypatch):
    copied = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copied.append(tensor) or tensor)
    steps = []
    with FakeTensorMode():  # tensors without values: whatever asks for one raises
        stepper = build_stepper(build_trainee(seed=None, dropout=0.5), precision=precision, **options)
        batch = Batch(
            images=torch.randn(8, 3, 68, 68), labels=torch.zeros(8, dtype=torch.long), positions=None, num_skipped=1
        )
        batches = (steps.append(step) or batch for step in itertools.count())
        with pytest.raises(DataDependentOutputException):
            list(run(stepper, batches, report_every=5, num_steps=20))
    assert steps == [0, 1, 2, 3, 4]
    assert len(copied) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_changes_no_more_than_rounding():
    states, taken = [], []
    for compiles in (False, True):
        network = build_trainee()
        if compiles:
            network.compile()
        taken.append(take_steps(build_stepper(network), *(paint_batch(seed) for seed in range(3))))
        states.append(copy_state(network))
    assert measure_difference(states[1], states[0]) < 1e-4
    assert [loss for loss, _ in taken[1]] == pytest.approx([loss for loss, _ in taken[0]], rel=1e-4)
