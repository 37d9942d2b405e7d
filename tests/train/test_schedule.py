"""Learning rates by epoch and by plateau."""

import pytest

from pipeline.config import PlateauConfig, ScheduleConfig
from pipeline.experiments import EXPERIMENTS
from pipeline.train.schedule import Rates, compute_rates, count_drops


def get_rates(name: str, epoch: int) -> Rates:
    return compute_rates(EXPERIMENTS[name].config.schedule, epoch=epoch, val_top1_errors=[0.5] * epoch)


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
        ("source-2012", 25, 0.001, 0.002, 0.001),
        ("source-2012", 51, 1e-4, 0.002, 1e-4),
        ("source-2012", 66, 1e-4, 0.002, 1e-4),
        ("source-2012", 67, 1e-4, 0.002, 1e-5),
        ("source-2012", 72, 1e-4, 0.002, 0.0),
        ("source-2012", 78, 1e-4, 0.002, 0.0),
        ("source-2012", 79, 1e-5, 0.002, 0.0),
    ],
)
def test_rates_of_net_145_change_in_the_recorded_epochs(name, epoch, weights, biases, conv1):
    assert get_rates(name, epoch) == Rates(weights=weights, biases=biases, conv1=conv1)


def test_the_recorded_runs_end_where_they_were_stopped():
    epochs = {name: EXPERIMENTS[name].config.schedule.epochs for name in ("source-2010", "source-2012", "paper")}
    assert epochs == {"source-2010": 93, "source-2012": 91, "paper": 90}


def test_the_paper_keeps_one_rate_for_all_and_divides_it_by_10_at_a_plateau():
    schedule = EXPERIMENTS["paper"].config.schedule
    improving = [1 - epoch / 100 for epoch in range(30)]
    assert compute_rates(schedule, epoch=30, val_top1_errors=improving) == Rates(weights=0.01, biases=0.01, conv1=0.01)
    stuck = [*improving, *[0.9] * 5]
    rates = compute_rates(schedule, epoch=35, val_top1_errors=stuck)
    assert rates == Rates(weights=pytest.approx(0.001), biases=pytest.approx(0.001), conv1=pytest.approx(0.001))


def test_rates_of_an_epoch_do_not_depend_on_later_errors():
    schedule = EXPERIMENTS["paper"].config.schedule
    errors = [0.9] * 40
    at_8 = compute_rates(schedule, epoch=8, val_top1_errors=errors[:8])
    assert compute_rates(schedule, epoch=8, val_top1_errors=errors) == at_8


def test_a_plateau_divides_a_conv1_rate_of_its_own_too():
    schedule = ScheduleConfig(
        epochs=9, weights=((0, 0.01),), biases=((0, 0.02),), conv1=((0, 0.004),), plateau=PlateauConfig(patience=1)
    )
    rates = compute_rates(schedule, epoch=2, val_top1_errors=[0.5, 0.5])
    assert rates == Rates(weights=pytest.approx(0.001), biases=pytest.approx(0.002), conv1=pytest.approx(0.0004))


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
