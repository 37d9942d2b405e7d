"""Which classes are taken for which: the most frequent pairs, and of a few classes the whole matrix."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.drawing import BACKGROUND, BLUE, INK, VERMILLION, reserve_inches, save_svg, shorten, themed
from pipeline.report.document import Picture, Table
from pipeline.report.figures.guesses import Guesses
from pipeline.report.figures.names import format_label, format_name
from pipeline.report.measured import MeasuredRun

NUM_PAIRS = 20
MAX_CLASSES = 20
"""Of a matrix."""
CELL_INCHES, AXIS_INCHES, MARGIN_INCHES = 0.4, 0.5, 0.1
NAME_COLUMNS, NAME_POINTS = 20, 8
STRONG = 0.6
"""A cell of this strength or more has its number in the background's colour."""


def count_pairs(guesses: Guesses) -> Iterator[tuple[int, int, int]]:
    """(label, likeliest, pictures) of every pair that occurs, right ones among them, most frequent first."""
    pairs, counts = np.unique(np.stack([guesses.labels, guesses.likeliest]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    for (label, likeliest), count in zip(pairs.T[order].tolist(), counts[order].tolist(), strict=True):
        yield label, likeliest, count


def build_confused_pairs(run: MeasuredRun, guesses: Guesses) -> Table:
    """The pairs of classes that are mistaken most often: which for which, how often, and in what share of the first."""
    num_images = np.bincount(guesses.labels)
    wrong = [(label, likeliest, count) for label, likeliest, count in count_pairs(guesses) if label != likeliest]
    return Table(
        name=format_name("confused-pairs", run),
        headers=("true class", "taken for", "pictures", "share of the true class, %"),
        rows=tuple(
            (guesses.classes[label], guesses.classes[likeliest], f"{count:,}", f"{100 * count / num_images[label]:.1f}")
            for label, likeliest, count in wrong[:NUM_PAIRS]
        ),
    )


@themed()
def build_confusion_matrix(run: MeasuredRun, guesses: Guesses) -> Picture | None:
    """Pictures by true and by likeliest class, right ones in blue and wrong ones in red; None of too many classes."""
    num_classes = len(guesses.classes)
    if num_classes > MAX_CLASSES:
        return None
    names = [shorten(name, NAME_COLUMNS) for name in guesses.classes]
    figure, axes = lay_out(names)
    num_images = np.bincount(guesses.labels, minlength=num_classes)
    for label, likeliest, count in count_pairs(guesses):
        strength = math.sqrt(count / num_images[label])
        color = BLUE if label == likeliest else VERMILLION
        axes.add_patch(Rectangle((likeliest - 0.5, label - 0.5), 1, 1, facecolor=(color, strength), linewidth=0))
        ink = BACKGROUND if strength >= STRONG else INK
        axes.text(likeliest, label, f"{count:,}", ha="center", va="center_baseline", color=ink, fontsize=NAME_POINTS)
    name, title = format_name("confusion", run), f"Confusion matrix of {format_label(run)}"
    caption = (
        f"{title}: {guesses.describe()}, by true class (rows) and by the class that was likeliest (columns); the "
        "stronger a cell, the larger its share of the true class."
    )
    return Picture(name=name, caption=caption, svg=save_svg(figure, name=name, title=title, caption=caption))


def lay_out(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure with a square cell for each pair of names, which stand at its left and, slanting, below it."""
    edge = CELL_INCHES * len(names)
    left = below = AXIS_INCHES + reserve_inches(names, points=NAME_POINTS)
    side = left + edge + MARGIN_INCHES
    figure = Figure(figsize=(side, side))
    axes = figure.add_axes((left / side, below / side, edge / side, edge / side))
    end = len(names) - 0.5
    axes.set(xlim=(-0.5, end), ylim=(end, -0.5), xlabel="taken for", ylabel="true class")
    axes.set_yticks(range(len(names)), names, fontsize=NAME_POINTS)
    axes.set_xticks(range(len(names)), names, fontsize=NAME_POINTS, rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    return figure, axes
