"""One metric of several runs by epoch, as in the paper's Fig. 1: a figure, and a page that says how it was made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from pipeline.artifacts import RunDirectory
from pipeline.config import ScheduleConfig
from pipeline.drawing import MUTED, choose_line, save_svg, themed
from pipeline.errors import check
from pipeline.options import CurvesConfig
from pipeline.report.document import format_count
from pipeline.report.figures.names import format_label
from pipeline.report.measured import MeasuredRun, read_run
from pipeline.report.origins import format_origins
from pipeline.report.page import check_own_page, find_page, write_page
from pipeline.tracking import Journal, JournalEntry
from pipeline.tracking.curves import draw_curve, finish_axes

NAMES = {
    "train/loss": "training loss, nats",
    "train/top1_error": "training top-1 error, %",
    "val/loss": "validation loss, nats",
    "val/top1_error": "validation top-1 error, %",
    "val/top5_error": "validation top-5 error, %",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One run's metric: (epochs finished, mean over the last of them)."""

    run: MeasuredRun
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """When a curve first lay below a threshold."""

    epoch: float
    """Epochs, interpolated between the two points about the threshold; where it never did, all that were trained."""
    found: bool
    """Whether it did."""
    exact: bool
    """Whether there is a point above it to interpolate from; without one, `epoch` is the latest that it can be."""


def write_curves(config: CurvesConfig) -> Path:
    """Draw `config.metric` of all runs, and write the page beside it.

    Returns:
        Path of the page.

    Raises:
        InputError: a path is no run directory, its journal lacks the metric, or the page is not of this command.
    """
    check_own_page(find_page(config.out), "curves")
    curves = [read_curve(run, config.metric) for run in config.runs]
    name = get_name(config.metric)
    caption = f"{name}, by epoch, of {', '.join(format_label(curve.run) for curve in curves)}"
    shown = (
        f"Each point of the figure is the mean of `{config.metric}` over one epoch, each entry of the journal weighted "
        "by its steps, and stands at that epoch's end; an epoch that was not finished is left out."
    )
    if config.threshold is not None:
        shown += (
            f" A curve is below {format_value(config.metric, config.threshold)} from where the line between two points "
            "crosses it, to the tenth of an epoch."
        )
    path = write_page(
        config.out,
        "curves",
        draw_metric(curves, config.metric, config.threshold, name="curves", caption=caption),
        [
            f"# {name[0].upper()}{name[1:].removesuffix(', %')} by epoch",
            shown,
            f"![{config.metric} by epoch]({config.out.name}.svg)",
            format_curves(curves, config.metric, config.threshold),
            format_origins([curve.run for curve in curves]),
        ],
    )
    print(f"curves: {format_count(len(curves), 'run')} in {path}")
    return path


def read_curve(path: Path, metric: str) -> Curve:
    """Read a metric of a run directory.

    Raises:
        InputError: it is none, or its journal has no finished epoch with that metric.
    """
    run, journal = read_run(path), Journal(RunDirectory(path).journal)
    entries = journal.read_metric(metric)
    known = sorted({name for entry in journal.read() for name in entry.metrics})
    check(entries, f"{journal.path} has no --metric {metric}: choose one of {', '.join(known) or 'none, it is empty'}")
    points = average_by_epoch(entries)
    check(points, f"{journal.path} holds no finished epoch of {metric}: train on")
    return Curve(run=run, points=points)


def average_by_epoch(entries: Sequence[tuple[JournalEntry, float]]) -> tuple[tuple[float, float], ...]:
    """(epochs finished, mean over the last of them), entries weighted by the steps since the one before."""
    steps = np.diff([0] + [entry.step for entry, _ in entries])
    points = []
    for end, group in groupby(zip(entries, steps, strict=True), key=lambda item: math.ceil(item[0][0].epoch)):
        found, weights = zip(*group, strict=True)
        if found[-1][0].epoch == end:
            points.append((float(end), float(np.average([value for _, value in found], weights=weights))))
    return tuple(points)


def find_crossing(points: Sequence[tuple[float, float]], threshold: float) -> Crossing:
    """When the points, joined by lines, first lie below `threshold`."""
    if points[0][1] < threshold:
        return Crossing(points[0][0], found=True, exact=False)
    for (epoch, value), (next_epoch, next_value) in pairwise(points):
        if next_value < threshold:
            share = (value - threshold) / (value - next_value)
            return Crossing(epoch + share * (next_epoch - epoch), found=True, exact=True)
    return Crossing(points[-1][0], found=False, exact=False)


@themed()
def draw_metric(curves: Sequence[Curve], metric: str, threshold: float | None, *, name: str, caption: str) -> bytes:
    """Every curve against epochs, with a dot and its epoch where it first lies below `threshold`. SVG."""
    scale = get_scale(metric)
    figure = Figure(figsize=(7, 4.4 + 0.18 * len(curves)), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        line = choose_line(number)
        draw_curve(
            axes, [(epoch, value * scale) for epoch, value in curve.points], label=format_label(curve.run), **line
        )
        if threshold is not None and (crossing := find_crossing(curve.points, threshold)).exact:
            place = (crossing.epoch, threshold * scale)
            axes.plot(*place, "o", color=line["color"], markersize=5)
            axes.annotate(f"{crossing.epoch:.1f}", place, (4, 4), textcoords="offset points", color=line["color"])
    if threshold is not None:
        axes.axhline(threshold * scale, color=MUTED, linestyle="--", linewidth=1, zorder=1)
        place, origin = (0, threshold * scale), ("axes fraction", "data")
        axes.annotate(format_value(metric, threshold), place, (4, 4), origin, "offset points", fontsize=8, color=MUTED)
    finish_axes(axes, ylabel=get_name(metric))
    figure.legend(loc="outside lower center")
    return save_svg(figure, name=name, title=f"{get_name(metric)} by epoch", caption=caption)


def format_curves(curves: Sequence[Curve], metric: str, threshold: float | None) -> str:
    """A row per run: what it is, when it fell below `threshold`, and where it ended."""
    headers = ["run", "experiment", "rate", "epochs", f"{get_name(metric)}, last epoch", "commit", "processes, machine"]
    rows = [
        [
            curve.run.path.name,
            f"{curve.run.record.experiment} ({curve.run.describe_status()})",
            format_rates(curve.run.record.config.schedule),
            f"{curve.points[-1][0]:g}",
            f"{curve.points[-1][1] * get_scale(metric):.3g}",
            ", ".join(dict.fromkeys(start.format_commit() for start in curve.run.record.starts)),
            "; ".join(dict.fromkeys(start.format_machine() for start in curve.run.record.starts)),
        ]
        for curve in curves
    ]
    if threshold is not None:
        headers[4:4] = [f"below {format_value(metric, threshold)} after, epochs", "times the soonest"]
        crossings = [find_crossing(curve.points, threshold) for curve in curves]
        for row, crossing in zip(rows, crossings, strict=True):
            row[4:4] = [format_crossing(crossing), format_ratio(crossing, crossings)]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def format_crossing(crossing: Crossing) -> str:
    """The epoch, and what is known of it."""
    if not crossing.found:
        return f"not in {crossing.epoch:g}"
    return f"{crossing.epoch:.1f}" if crossing.exact else f"at most {crossing.epoch:.1f}"


def format_ratio(crossing: Crossing, crossings: Sequence[Crossing]) -> str:
    """How many times as many epochs as the soonest of all."""
    soonest = min((other for other in crossings if other.found), key=lambda other: other.epoch, default=None)
    if crossing is soonest:
        return "1"
    if soonest is None or (crossing.found and not crossing.exact):
        return "–"
    bound = "more than " if not crossing.found else "" if soonest.exact else "at least "
    return f"{bound}{crossing.epoch / soonest.epoch:.1f}"


def format_rates(schedule: ScheduleConfig) -> str:
    """Learning rates as scheduled, those of the biases where they differ."""

    def join(steps: Sequence[tuple[int, float]]) -> str:
        return ", ".join(f"{rate:g}" + (f" from epoch {epoch}" if epoch else "") for epoch, rate in steps)

    biases = "" if schedule.biases == schedule.weights else f"; biases {join(schedule.biases)}"
    return join(schedule.weights) + biases


def get_name(metric: str) -> str:
    """The metric in words with its unit, or its key where it has none."""
    return NAMES.get(metric, metric)


def get_scale(metric: str) -> int:
    """What a value is multiplied by to be shown: errors come in percent."""
    return 100 if metric.endswith("_error") else 1


def format_value(metric: str, value: float) -> str:
    """A value of the metric with its unit."""
    return f"{value * get_scale(metric):g}" + ("%" if metric.endswith("_error") else "")
