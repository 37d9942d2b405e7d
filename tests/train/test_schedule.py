"""Learning rates by epoch, by step, by batch size and by plateau."""

import dataclasses
import math
from collections.abc import Sequence

import pytest

from pipeline.config import PlateauConfig, ScheduleConfig
from pipeline.experiments import EXPERIMENTS
from pipeline.train.schedule import Rates, compute_rates, count_drops

STEPS_PER_EPOCH = 10
FLAT = ScheduleConfig(epochs=9, weights=((0, 0.01),), biases=((0, 0.02),))


def rate(schedule: ScheduleConfig, step: int, *, errors: Sequence[float] = (), batch: int = 128) -> Rates:
    """Rates of a step, after an evaluation with each of the errors at the end of each epoch."""
    return compute_rates(
        schedule,
        step=step,
        steps_per_epoch=STEPS_PER_EPOCH,
        global_batch_size=batch,
        evaluations=list(enumerate(errors, start=1)),
    )


def get_rates(name: str, epoch: int) -> Rates:
    return rate(EXPERIMENTS[name].config.schedule, epoch * STEPS_PER_EPOCH, errors=[0.5] * epoch)


@pytest.mark.parametrize(
    ("name", "epoch", "weights", "biases", "conv1"),
    [
        ("source-2010", 0, 0.01, 0.02, 0.01),
        ("source-2010", 22, 0.01, 0.02, 0.01),
        ("source-2010", 23, 0.001, 0.002, 0.001),
        ("source-2010", 50, 0.001, 0.002, 0.001),
        ("source-2010", 51, 1e-4, 0.002, 1e-4),
        ("source-2010", 67, 1e-4, 0.002, 1e-4),
        ("source-2010", 68, 1e-4, 0.002, 1e-5),
        ("source-2010", 71, 1e-4, 0.002, 1e-5),
        ("source-2010", 72, 1e-4, 0.002, 0.0),
        ("source-2010", 77, 1e-4, 0.002, 0.0),
        ("source-2010", 78, 1e-5, 0.002, 0.0),
        ("source-2010", 92, 1e-5, 0.002, 0.0),
        ("source-2012", 24, 0.01, 0.02, 0.01),
        ("source-2012", 25, 0.001, 0.02, 0.001),
        ("source-2012", 51, 1e-4, 0.02, 1e-4),
        ("source-2012", 66, 1e-4, 0.02, 1e-4),
        ("source-2012", 67, 1e-4, 0.02, 1e-5),
        ("source-2012", 72, 1e-4, 0.02, 0.0),
        ("source-2012", 78, 1e-4, 0.02, 0.0),
        ("source-2012", 79, 1e-5, 0.02, 0.0),
    ],
)
def test_rates_of_net_145_change_in_the_recorded_epochs(name, epoch, weights, biases, conv1):
    assert get_rates(name, epoch) == Rates(weights=weights, biases=biases, conv1=conv1, head=weights)


def test_the_recorded_runs_end_where_they_were_stopped():
    epochs = {name: EXPERIMENTS[name].config.schedule.epochs for name in ("source-2010", "source-2012", "paper")}
    assert epochs == {"source-2010": 93, "source-2012": 91, "paper": 90}


def test_the_paper_keeps_one_rate_for_all_and_divides_it_by_10_at_a_plateau():
    schedule = EXPERIMENTS["paper"].config.schedule
    improving = [1 - epoch / 100 for epoch in range(30)]
    assert list_values(rate(schedule, 30 * STEPS_PER_EPOCH, errors=improving)) == [0.01] * 4
    stuck = [*improving, *[0.9] * 5]
    assert list_values(rate(schedule, 35 * STEPS_PER_EPOCH, errors=stuck)) == pytest.approx([0.001] * 4)


def list_values(rates: Rates) -> list[float]:
    return [value for _, value in rates.list_rates()]


def test_rates_of_an_epoch_do_not_depend_on_later_errors():
    schedule = EXPERIMENTS["paper"].config.schedule
    errors = [0.9] * 40
    at_8 = rate(schedule, 8 * STEPS_PER_EPOCH, errors=errors[:8])
    assert rate(schedule, 8 * STEPS_PER_EPOCH, errors=errors) == at_8


def test_a_plateau_divides_rates_of_conv1_and_of_the_head_too():
    own = dataclasses.replace(
        FLAT, conv1=((0, 0.004),), head=((0, 0.1),), features=0.5, plateau=PlateauConfig(patience=1)
    )
    found = rate(own, 2 * STEPS_PER_EPOCH, errors=[0.5, 0.5])
    assert list_values(found) == pytest.approx([0.001, 0.002, 0.0002, 0.0005, 0.01])
    assert found.list_rates()[3][0] == "convs"


def test_patience_counts_evaluations_and_not_epochs():
    schedule = dataclasses.replace(FLAT, plateau=PlateauConfig(patience=2), evaluate_every=3)

    def rate_of_epoch(epoch: int) -> float:
        evaluations = [(finished, 0.5) for finished in (3, 6, 9)]
        step = epoch * STEPS_PER_EPOCH
        rates = compute_rates(
            schedule, step=step, steps_per_epoch=STEPS_PER_EPOCH, global_batch_size=128, evaluations=evaluations
        )
        return rates.weights

    assert [rate_of_epoch(epoch) for epoch in (3, 6, 8)] == [0.01] * 3
    assert rate_of_epoch(9) == pytest.approx(0.001)


def test_a_warm_up_rises_in_equal_steps_from_the_first_to_the_whole_rate():
    schedule = dataclasses.replace(FLAT, warmup_epochs=2)
    assert rate(schedule, 0).weights == pytest.approx(0.01 / 20)
    assert rate(schedule, 9).biases == pytest.approx(0.02 * 10 / 20)
    assert [rate(schedule, step).weights for step in (19, 20, 89)] == pytest.approx([0.01] * 3)
    assert schedule.follows_steps
    assert not FLAT.follows_steps


def test_a_cosine_begins_after_the_warm_up_and_would_reach_0_after_the_last_step():
    schedule = dataclasses.replace(FLAT, warmup_epochs=1, cosine=True)  # 80 steps of falling
    found = [rate(schedule, step).weights for step in (9, 10, 30, 50, 70, 89)]
    half = math.sqrt(0.5)
    last = (1 - math.cos(math.pi / 80)) / 2
    assert found == pytest.approx([0.01 * share for share in (1, 1, (1 + half) / 2, 0.5, (1 - half) / 2, last)])


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("linear", 16.0), ("sqrt", 4.0)])
def test_rates_follow_the_batch_by_rule(rule, factor):
    schedule = dataclasses.replace(FLAT, batch_rule=rule)
    assert list_values(rate(schedule, 0, batch=2048)) == pytest.approx(
        [0.01 * factor, 0.02 * factor] + [0.01 * factor] * 2
    )
    assert list_values(rate(schedule, 0, batch=128)) == pytest.approx([0.01, 0.02, 0.01, 0.01])
    at_256 = dataclasses.replace(schedule, rates_for_batch=256)
    assert rate(at_256, 0, batch=256).weights == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("errors", "drops"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.4, 0.3, 0.2], 0),
        ([0.5, 0.5, 0.5], 1),  # an equal error is no improvement
        ([0.5, 0.6], 0),
        ([0.5, 0.6, 0.4, 0.5], 0),  # a new lowest error resets the wait
        ([0.5, 0.6, 0.4, 0.5, 0.4], 1),
        ([0.5, 0.6, 0.6, 0.5], 1),  # the wait starts anew after a drop
        ([0.5, 0.6, 0.6, 0.5, 0.5], 2),
        ([0.5] * 7, 3),
        ([0.5] * 40, 3),  # three drops and no more
    ],
)
def test_drops_come_after_two_evaluations_without_a_new_lowest_error(errors, drops):
    assert count_drops(PlateauConfig(patience=2, max_drops=3), errors) == drops


def test_without_patience_nothing_drops():
    assert count_drops(PlateauConfig(patience=None), [0.5] * 40) == 0
