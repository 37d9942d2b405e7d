"""Learning curves of one run: what is drawn from a journal, where the rate changes, and how large the figure gets."""

import dataclasses
import math

import numpy as np
import pytest
from drawings import list_panels, read_lines, read_numbers, read_texts
from matplotlib.figure import Figure

from pipeline.config import PlateauConfig
from pipeline.drawing import BLUE, INK, MUTED, VERMILLION
from pipeline.experiments import EXPERIMENTS
from pipeline.tracking import JournalEntry
from pipeline.tracking.curves import (
    MAX_POINTS,
    draw_learning_curves,
    find_rate_changes,
    finish_axes,
    read_points,
    thin_out,
)

CONFIG = EXPERIMENTS["source-2012"].config
STEPS = 10
"""Of an epoch."""


def build_entries(
    rates: list[float], *, step_size: int = 5, validate: bool = True, first_step: int = 0
) -> list[JournalEntry]:
    """A journal with these rates by epoch."""
    entries = []
    for step in range(first_step + step_size, STEPS * len(rates) + 1, step_size):
        error = 0.9 / (1 + step / STEPS)
        metrics = {"train/loss": 7 * error, "train/top1_error": error, "optim/lr": rates[(step - 1) // STEPS]}
        entries.append(JournalEntry(step=step, epoch=step / STEPS, time=0.0, metrics=metrics))
        if validate and step % STEPS == 0:
            metrics = {"val/loss": 6 * error, "val/top1_error": error - 0.05, "val/top5_error": error / 2}
            entries.append(JournalEntry(step=step, epoch=step / STEPS, time=0.0, metrics=metrics))
    return entries


def draw(entries: list[JournalEntry], config=CONFIG) -> bytes:
    return draw_learning_curves(entries, config, name="curves", title="Learning curves")


def test_curves_rates_and_chance_stand_where_the_journal_has_them():
    svg = draw(build_entries([0.01] * 3 + [0.001] * 4 + [0.0001] * 3))
    errors, losses = list_panels(svg)
    for panel, chance, last in ((errors, 99.9, 100 * 0.9 / 11), (losses, math.log(1000), 7 * 0.9 / 11)):
        lines = read_lines(panel)
        dashed, *changes = lines[f"{MUTED} dashed"]
        assert read_numbers(panel, "y", [dashed[0][1], dashed[1][1]]) == pytest.approx([chance] * 2, abs=0.01)
        assert read_numbers(panel, "x", [line[0][0] for line in changes]) == pytest.approx([3, 7], abs=0.01)
        training = lines[INK][0]
        assert len(training) == 20
        assert read_numbers(panel, "x", [training[0][0], training[-1][0]]) == pytest.approx([0.5, 10], abs=0.01)
        assert read_numbers(panel, "y", [training[-1][1]]) == pytest.approx([last], abs=0.05)
        assert len(lines[f"{BLUE} dashed"][0]) == 10
    assert len(read_lines(errors)[f"{VERMILLION} dashed"][0]) == 10
    texts = read_texts(svg)
    assert [texts.count(said) for said in ("rate 0.01", "0.001", "0.0001", "chance", "epochs")] == [2] * 5
    assert {"error, %", "loss, nats", "training top-1", "validation top-1", "validation top-5"} <= set(texts)


def test_the_highest_value_stands_below_the_top_and_ticks_are_at_whole_epochs():
    axes = Figure().subplots()
    axes.plot([0.5, 3.5], [2.47, 2.30])
    finish_axes(axes, ylabel="loss, nats")
    assert axes.get_ylim() == (0, pytest.approx(1.05 * 2.47))
    assert [tick for tick in axes.get_xticks() if tick <= 3.5] == [0, 1, 2, 3]


def test_a_rate_changes_at_the_epoch_s_end_however_seldom_the_journal_has_it():
    rates = [0.01] * 4 + [0.001] * 4
    for step_size in (1, 3, 7, 10):
        assert find_rate_changes(build_entries(rates, step_size=step_size), CONFIG.schedule) == [(0, 0.01), (4, 0.001)]


def test_the_rates_of_a_plateau_are_the_journal_s_and_not_the_schedule_s():
    schedule = dataclasses.replace(CONFIG.schedule, weights=((0, 0.01),), plateau=PlateauConfig(patience=2))
    entries = build_entries([0.01] * 3 + [0.001] * 2 + [0.0001])
    assert find_rate_changes(entries, schedule) == [(0, 0.01), (3, 0.001), (5, 0.0001)]


def test_a_warm_up_is_no_change_and_a_cosine_has_none():
    entries = build_entries([0.001, 0.002, 0.01, 0.01, 0.001])
    warm = dataclasses.replace(CONFIG.schedule, warmup_epochs=2)
    assert find_rate_changes(entries, warm) == [(2, 0.01), (4, 0.001)]
    assert find_rate_changes(entries, dataclasses.replace(CONFIG.schedule, cosine=True)) == []
    assert find_rate_changes([], CONFIG.schedule) == []


def test_where_a_step_occurs_twice_the_later_entry_counts():
    first, again = build_entries([0.01], validate=False), build_entries([0.02], validate=False, first_step=5)
    assert [entry.step for entry in [*first, *again]] == [5, 10, 10]
    assert read_points([*first, *again], "optim/lr") == [(0.5, 0.01), (1.0, 0.02)]


def test_one_point_is_a_dot_and_no_validation_is_no_line():
    assert draw([]).count(b"<use ") > 0  # ticks alone
    svg = draw(build_entries([0.01], step_size=10, validate=False))
    assert svg.count(f'style="fill: {INK}; stroke: {INK}'.encode()) == 4  # a dot in each panel and in each legend
    assert "validation top-1" not in read_texts(svg)
    assert f"stroke: {BLUE}".encode() not in svg


def test_of_many_points_the_means_of_stretches_are_drawn():
    values = np.random.default_rng(0).random(100_000)
    points = [((number + 1) / 1000, value) for number, value in enumerate(values.tolist())]
    thin = thin_out(points)
    assert len(thin) == MAX_POINTS
    assert thin[-1] == (100.0, pytest.approx(values[-250:].mean()))
    assert np.mean([value for _, value in thin]) == pytest.approx(values.mean())
    assert thin_out(points[:MAX_POINTS]) == points[:MAX_POINTS]
    assert thin_out([(1.0, 1.0)] + [(1 + 1e-9 * number, 0.0) for number in range(1, 2 * MAX_POINTS)])[0][1] > 0.99


def test_a_figure_of_100_000_points_of_each_metric_stays_small():
    draws = np.random.default_rng(0).random((100_000, 5)).tolist()
    keys = ("train/loss", "train/top1_error", "val/loss", "val/top1_error", "val/top5_error")
    entries = [
        JournalEntry(step=step, epoch=step / 1000, time=0.0, metrics=dict(zip(keys, values, strict=True)))
        for step, values in enumerate(draws, start=1)
    ]
    assert len(draw(entries)) < 300_000


def test_rates_that_follow_closely_are_written_above_each_other():
    svg = draw(build_entries([0.01] * 20 + [0.001, 0.0001] + [0.00001] * 20))
    texts = [element for element in list_panels(svg)[0].iter() if element.text in {"0.001", "0.0001", "1e-05"}]
    assert len({element.attrib["y"] for element in texts}) == 3
    assert not np.isnan([float(element.attrib["y"]) for element in texts]).any()


def test_a_loss_that_is_not_finite_is_left_out():
    entries = build_entries([0.01] * 4)
    entries[0].metrics["train/loss"] = math.inf
    entries[3].metrics["train/loss"] = math.nan
    assert b"inf" not in (svg := draw(entries))
    assert len(list_panels(svg)) == 2
