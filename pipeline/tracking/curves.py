"""Learning curves: those of one run, drawn from its journal, and what any figure of curves is made of."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.config import ExperimentConfig, ScheduleConfig
from pipeline.drawing import BLUE, GRID, INK, MUTED, VERMILLION, save_svg, themed
from pipeline.tracking.journal import JournalEntry

MAX_POINTS = 400
"""Of a curve. Where a journal holds more, each point is the mean of a stretch, which keeps the figure small."""
LABEL_ROWS, LABEL_WIDTH = 3, 0.14
"""Rates are written above the curves; where one would be written over another, which takes this share of the axis, it
goes into the next row."""
HEADROOM = 1.05
"""Top of an axis, by the highest value."""

TRAINING = {"color": INK, "linestyle": "-"}
TOP1 = {"color": BLUE, "linestyle": "--", "marker": "o"}
TOP5 = {"color": VERMILLION, "linestyle": ":", "marker": "^"}

Points = Sequence[tuple[float, float]]
"""(epochs, value), in order of epoch."""


CAPTION = (
    "Training error and loss on augmented pictures with dropout, validation errors and loss on centre patches. Dotted: "
    "where the learning rate of the weights changes, and to what. Dashed grey: chance. Of more than "
    f"{MAX_POINTS} values of a curve the means of stretches are shown."
)


@themed()
def draw_learning_curves(entries: Sequence[JournalEntry], config: ExperimentConfig, *, name: str, title: str) -> bytes:
    """Draw errors and loss against epochs, with a line at each change of the learning rate, and chance as a dashed one.

    Args:
        entries: of the journal, none or many.
        config: of the run.
        name: of the figure, for its ids: small letters, digits and hyphens.
        title: for who cannot see it; any text.

    Returns:
        An SVG of less than 300 kB.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    for axes, scale, key, line in (
        (errors, 100, "train/top1_error", {"label": "training top-1", **TRAINING}),
        (errors, 100, "val/top1_error", {"label": "validation top-1", **TOP1}),
        (errors, 100, "val/top5_error", {"label": "validation top-5", **TOP5}),
        (losses, 1, "train/loss", {"label": "training", **TRAINING}),
        (losses, 1, "val/loss", {"label": "validation", **TOP1}),
    ):
        draw_curve(axes, [(epoch, scale * value) for epoch, value in read_points(entries, key)], **line)
    draw_chance(errors, 100 * (1 - 1 / config.model.num_classes))
    draw_chance(losses, math.log(config.model.num_classes))
    for axes, ylabel, top in ((errors, "error, %", 102), (losses, "loss, nats", None)):
        finish_axes(axes, ylabel=ylabel, top=top)
        write_rates(axes, find_rate_changes(entries, config.schedule))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    return save_svg(figure, name=name, title=title, caption=CAPTION)


def read_points(entries: Sequence[JournalEntry], key: str) -> Points:
    """A metric's points; where a step occurs twice, the later entry counts."""
    latest = {entry.step: (entry.epoch, entry.metrics[key]) for entry in entries if key in entry.metrics}
    return [latest[step] for step in sorted(latest)]


def thin_out(points: Points) -> Points:
    """The points; of more than `MAX_POINTS` the means of as many stretches, weighted by epochs, at their ends."""
    if len(points) <= MAX_POINTS:
        return points
    epochs, values = np.array(points).T
    stretches = (np.array_split(array, MAX_POINTS) for array in (epochs, values, np.diff(epochs, prepend=0)))
    return [
        (float(ends[-1]), float(np.average(part, weights=weights)))
        for ends, part, weights in zip(*stretches, strict=True)
    ]


def find_rate_changes(entries: Sequence[JournalEntry], schedule: ScheduleConfig) -> Points:
    """The first rate of the weights, and each later one, as (epochs after which it holds, rate).

    They are the journal's, so those of a plateau are among them. A rate changes at the end of an epoch only, but in a
    warm-up and along a cosine, of which nothing is said: they have no drops.
    """
    held = [(epoch, rate) for epoch, rate in read_points(entries, "optim/lr") if epoch > schedule.warmup_epochs]
    if not held or schedule.cosine:
        return []
    changes = [(float(math.ceil(epoch)), later) for (epoch, rate), (_, later) in pairwise(held) if later != rate]
    return [(float(schedule.warmup_epochs), held[0][1]), *changes]


def draw_curve(axes: Axes, points: Points, **line: Any) -> None:
    """Draw a curve, thinned out; a single point gets a marker, none at all nothing, not even in the legend.

    Args:
        axes: to draw on.
        points: of the curve.
        line: matplotlib's words for it: label, color, linestyle, marker.
    """
    if points:
        epochs, values = zip(*thin_out(points), strict=True)
        marker = "o" if len(points) == 1 else None
        axes.plot(epochs, values, **{"marker": marker, "markersize": 3, "linewidth": 1.3, "clip_on": False, **line})


def draw_chance(axes: Axes, value: float) -> None:
    """What guessing gives, as a dashed line across."""
    axes.axhline(value, color=MUTED, linestyle="--", linewidth=1, zorder=1)
    place = axes.get_yaxis_transform()
    axes.annotate("chance", (1, value), (0, -9), place, "offset points", ha="right", color=MUTED, fontsize=7)


def finish_axes(axes: Axes, *, ylabel: str, top: float | None = None) -> None:
    """Axes from 0 on, whole epochs up to the last point, names with units, a grid.

    Args:
        axes: with its curves.
        ylabel: name and unit.
        top: of the axis; None for a little above the highest value.
    """
    highest = axes.dataLim.y1 if axes.dataLim.y1 > 0 else 1
    axes.set(xlabel="epochs", ylabel=ylabel, ylim=(0, HEADROOM * highest if top is None else top))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, axes.dataLim.x1 if axes.dataLim.x1 > 0 else 1)  # below 0 where there is no point
    axes.grid(color=GRID)


def write_rates(axes: Axes, changes: Points) -> None:
    """A dotted line where a rate begins to hold, and the rate above it; the first has no line."""
    (_, end), row, free_from = axes.get_xlim(), 0, 0.0
    for number, (epoch, rate) in enumerate(changes):
        row = (row + 1) % LABEL_ROWS if epoch < free_from else 0
        free_from = epoch + LABEL_WIDTH * end
        if number:
            axes.axvline(epoch, color=MUTED, linestyle=":", linewidth=1)
        words = f"{rate:g}" if number else f"rate {rate:g}"
        above = axes.get_xaxis_transform()
        axes.annotate(words, (epoch, 1), (0, 4 + 10 * row), above, "offset points", color=MUTED, fontsize=7)
