"""How often each class is mistaken: all of a few, or the best and the worst of many beside the sorted curve."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.drawing import BLUE, GRID, INK, MUTED, reserve_inches, save_svg, themed
from pipeline.report.document import Picture
from pipeline.report.figures.guesses import Guesses
from pipeline.report.figures.names import format_label, format_name
from pipeline.report.intervals import Count, compute_interval
from pipeline.report.measured import MeasuredRun

MAX_NAMED, NUM_EXTREMES = 30, 10
"""Up to the first number of classes all are named, of more the best and the worst."""
BAR_INCHES, AXIS_INCHES, MARGIN_INCHES, PANEL_INCHES = 0.22, 0.6, 0.2, 3.8
NAME_POINTS = 8


@dataclass(frozen=True, slots=True)
class ClassErrors:
    """A class that has pictures, and how many of them were taken for another."""

    name: str
    count: Count


def count_class_errors(guesses: Guesses) -> list[ClassErrors]:
    """The classes that have pictures, from the least to the most mistaken; of the same error in order of label."""
    num_images = np.bincount(guesses.labels, minlength=len(guesses.classes))
    num_errors = np.bincount(guesses.labels[guesses.likeliest != guesses.labels], minlength=len(guesses.classes))
    rows = zip(guesses.classes, num_errors.tolist(), num_images.tolist(), strict=True)
    found = [ClassErrors(name, Count(errors, images)) for name, errors, images in rows if images]
    return sorted(found, key=lambda row: row.count.error)


@themed()
def build_class_errors(run: MeasuredRun, guesses: Guesses) -> Picture:
    """Each class's top-1 error with its 95% interval; of many classes the sorted curve, and the best and the worst."""
    rows = count_class_errors(guesses)
    error = float(np.mean(guesses.likeliest != guesses.labels))
    few = len(rows) <= MAX_NAMED
    named = rows if few else [*rows[:NUM_EXTREMES], *rows[-NUM_EXTREMES:]]
    figure, bars, curve = lay_out([row.name for row in named], with_curve=not few)
    draw_bars(bars, named)
    bars.axvline(100 * error, color=MUTED, linestyle="--", linewidth=1)
    if curve is not None:
        bars.axhline(NUM_EXTREMES - 0.5, color=MUTED, linewidth=1)
        draw_sorted(curve, rows)
        curve.axhline(100 * error, color=MUTED, linestyle="--", linewidth=1)
    shown = "every class" if few else f"the {NUM_EXTREMES} best and the {NUM_EXTREMES} worst of {len(rows):,} classes"
    name, title = format_name("class-errors", run), f"Errors by class of {format_label(run)}"
    caption = (
        f"{title}: {shown} with 95% intervals, {guesses.describe()}. Dashed: {error:.1%}, the error of all together."
    )
    return Picture(name=name, caption=caption, svg=save_svg(figure, name=name, title=title, caption=caption))


def lay_out(names: Sequence[str], *, with_curve: bool) -> tuple[Figure, Axes, Axes | None]:
    """A figure with room for a bar beside each name, and for a curve on the left."""
    tall, named = BAR_INCHES * len(names), reserve_inches(names, points=NAME_POINTS) + MARGIN_INCHES
    left = AXIS_INCHES + PANEL_INCHES if with_curve else 0.0
    width, height = left + named + PANEL_INCHES + MARGIN_INCHES, AXIS_INCHES + tall + MARGIN_INCHES
    figure = Figure(figsize=(width, height))

    def add_panel(x: float) -> Axes:
        return figure.add_axes((x / width, AXIS_INCHES / height, PANEL_INCHES / width, tall / height))

    return figure, add_panel(left + named), add_panel(AXIS_INCHES) if with_curve else None


def draw_bars(axes: Axes, rows: Sequence[ClassErrors]) -> None:
    """A bar a class, the most mistaken on top, with its interval."""
    for place, row in enumerate(rows):
        low, high = compute_interval(row.count)
        axes.barh(place, 100 * row.count.error, height=0.7, color=(BLUE, 0.5))
        axes.plot([100 * low, 100 * high], [place, place], "-|", color=INK, linewidth=1, markersize=5)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=NAME_POINTS)
    axes.set(xlabel="top-1 error, %", xlim=(0, None), ylim=(-0.6, len(rows) - 0.4))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID)


def draw_sorted(axes: Axes, rows: Sequence[ClassErrors]) -> None:
    """The errors of all classes, from the least mistaken one on."""
    axes.plot(range(1, len(rows) + 1), [100 * row.count.error for row in rows], color=BLUE)
    axes.set(xlabel="classes, from the best to the worst", ylabel="top-1 error, %", xlim=(0, len(rows)), ylim=(0, None))
    axes.grid(color=GRID)
