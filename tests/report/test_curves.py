"""Curves: what a point is, when a threshold is crossed, and what the page and its figure hold."""

import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from drawings import read_texts

from pipeline.artifacts import RunDirectory, RunRecord, write_json
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS
from pipeline.options import CurvesConfig
from pipeline.report.curves import (
    Crossing,
    draw_metric,
    find_crossing,
    format_crossing,
    format_rates,
    format_ratio,
    read_curve,
    write_curves,
)
from pipeline.tracking import Journal

STEPS_PER_EPOCH = 10
METRIC = "train/top1_error"
WriteRun = Callable[[str, Sequence[tuple[int, float]]], Path]


@pytest.fixture
def write_run(finished_run: Path, tmp_path: Path) -> WriteRun:
    """Writes a run directory as registered, with these steps and errors in its journal."""
    record = RunDirectory(finished_run).read_record()

    def write(experiment: str, entries: Sequence[tuple[int, float]]) -> Path:
        run = RunDirectory(tmp_path / "runs" / experiment)
        config = EXPERIMENTS[experiment].config
        write_json(
            run.config, dataclasses.replace(record, experiment=experiment, config=config, status="as registered")
        )
        for step, error in entries:
            Journal(run.journal).append(step=step, epoch=step / STEPS_PER_EPOCH, metrics={METRIC: error})
        return run.path

    return write


def test_a_point_is_an_epoch_s_mean_by_steps_and_an_unfinished_epoch_has_none(write_run: WriteRun):
    path = write_run("fig1-relu", [(8, 0.9), (10, 0.4), (18, 0.5), (20, 0.5), (28, 0.1)])
    assert read_curve(path, METRIC).points == ((1.0, pytest.approx(0.8)), (2.0, pytest.approx(0.5)))


def test_a_step_that_a_resumed_run_took_again_counts_once(write_run: WriteRun):
    path = write_run("fig1-relu", [(8, 0.9), (10, 0.4), (8, 0.7), (10, 0.2)])
    assert read_curve(path, METRIC).points == ((1.0, pytest.approx(0.6)),)


def test_the_crossing_lies_on_the_line_between_two_points_and_the_first_one_counts():
    points = ((1.0, 0.8), (2.0, 0.4), (3.0, 0.1), (4.0, 0.6), (5.0, 0.0))
    crossing = find_crossing(points, 0.25)
    assert (crossing.epoch, crossing.found, crossing.exact) == (pytest.approx(2.5), True, True)
    assert find_crossing(points, 0.9) == Crossing(1.0, found=True, exact=False)
    assert find_crossing(points[:3], 0.1) == Crossing(3.0, found=False, exact=False)


def test_a_ratio_says_what_is_not_known_of_it():
    exact, twice = Crossing(2.0, found=True, exact=True), Crossing(4.0, found=True, exact=True)
    early, never = Crossing(1.0, found=True, exact=False), Crossing(9.0, found=False, exact=False)
    assert [format_ratio(one, [twice, exact, never]) for one in (exact, twice, never)] == ["1", "2.0", "more than 4.5"]
    assert [format_ratio(one, [early, twice]) for one in (early, twice)] == ["1", "at least 4.0"]
    assert format_ratio(never, [never]) == "–"
    assert [format_crossing(one) for one in (exact, early, never)] == ["2.0", "at most 1.0", "not in 9"]


def test_the_page_gives_crossings_ratio_ends_commands_and_what_was_changed(
    write_run: WriteRun, finished_run: Path, tmp_path: Path
):
    relu = write_run("fig1-relu", [(10, 0.45), (20, 0.05)])
    tanh = write_run("fig1-tanh", [(10 * epoch, 1 - 0.1 * epoch) for epoch in range(1, 10)])
    out = tmp_path / "results" / "fig1"
    text = write_curves(CurvesConfig(runs=(relu, tanh, finished_run), threshold=0.25, out=out)).read_text()
    rows = {cells[1]: cells[2:-1] for line in text.splitlines() if len(cells := re.split(r"\s*\|\s*", line)) > 3}
    rates = [format_rates(EXPERIMENTS[path.name].config.schedule) for path in (relu, tanh)]
    assert rows["fig1-relu"][:6] == ["fig1-relu (as registered)", rates[0], "2", "1.5", "1", "5"]
    assert rows["fig1-tanh"][:6] == ["fig1-tanh (as registered)", rates[1], "9", "7.5", "5.0", "10"]
    record: RunRecord = RunDirectory(finished_run).read_record()
    assert rows["finished"][0] == "source-2012 (modified)"
    assert rows["finished"][-2:] == [record.starts[0].format_commit(), record.starts[0].format_machine()]
    assert f"**finished**: `{record.starts[0].command}`; changed" in text
    assert "`model.width` = 0.125 (1.0)" in text
    assert "below 25% after, epochs" in text
    assert "(fig1.svg)" in text
    assert ET.parse(tmp_path / "results" / "fig1.svg").getroot().tag.endswith("svg")


def test_a_rate_is_written_with_its_drops_and_the_biases_own():
    steps = dataclasses.replace(
        EXPERIMENTS["source-2012"].config.schedule, weights=((0, 0.01), (25, 0.001)), biases=((0, 0.02),)
    )
    assert format_rates(steps) == "0.01, 0.001 from epoch 25; biases 0.02"
    assert format_rates(EXPERIMENTS["paper"].config.schedule) == "0.01"


def test_the_figure_names_the_runs_marks_the_threshold_and_is_the_same_twice(write_run: WriteRun):
    curve = read_curve(write_run("fig1-relu", [(10, 0.45), (20, 0.05)]), METRIC)
    with_mark, without = (
        draw_metric([curve], METRIC, threshold, name="fig1", caption="ReLU") for threshold in (0.25, None)
    )
    assert draw_metric([curve], METRIC, 0.25, name="fig1", caption="ReLU") == with_mark
    assert {"fig1-relu (as registered)", "training top-1 error, %", "epochs"} <= set(read_texts(without))
    assert set(read_texts(with_mark)) - set(read_texts(without)) == {"25%", "1.5"}


def test_an_unknown_metric_is_refused_with_those_there_are(write_run: WriteRun, tmp_path: Path):
    run = write_run("fig1-relu", [(10, 0.45)])
    with pytest.raises(InputError, match=rf"journal.jsonl has no --metric train/los: choose one of {METRIC}"):
        write_curves(CurvesConfig(runs=(run,), metric="train/los", out=tmp_path / "fig"))
    with pytest.raises(InputError, match=r"holds no finished epoch of train/top1_error"):
        write_curves(CurvesConfig(runs=(write_run("fig1-tanh", [(9, 0.4)]),), out=tmp_path / "fig"))
    with pytest.raises(InputError, match=r"--out fig1.svg is the name of two files"):
        CurvesConfig(runs=(run,), out=Path("fig1.svg"))
    assert not list(tmp_path.glob("fig*"))


def test_an_own_page_is_replaced_and_that_of_somebody_else_is_not(write_run: WriteRun, tmp_path: Path):
    config = CurvesConfig(runs=(write_run("fig1-relu", [(10, 0.45)]),), out=tmp_path / "fig")
    page = write_curves(config)
    assert write_curves(dataclasses.replace(config, threshold=0.5)) == page
    assert "below 50% after" in page.read_text()
    page.write_text("my notes")
    with pytest.raises(InputError, match=r"fig.md exists and was not written by `alexnet curves`"):
        write_curves(config)
    assert page.read_text() == "my notes"
