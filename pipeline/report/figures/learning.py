"""Learning curves: of one run from its journal, and of several runs together."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from pipeline.artifacts import RunDirectory
from pipeline.drawing import choose_line, save_svg, themed
from pipeline.report.curves import average_by_epoch
from pipeline.report.document import Picture
from pipeline.report.figures.names import format_label, format_name
from pipeline.report.measured import MeasuredRun
from pipeline.tracking import Journal
from pipeline.tracking.curves import CAPTION, draw_chance, draw_curve, draw_learning_curves, finish_axes

COMPARISON = "comparison"
COMPARISON_CAPTION = (
    "Validation top-1 error on centre patches, and training loss on augmented pictures as the mean of each finished "
    "epoch, of each run against the epochs that it has trained. Dashed grey: chance."
)


def build_learning_curves(run: MeasuredRun) -> Picture:
    """One run's errors and loss against epochs, with the changes of its learning rate."""
    name, title = format_name("learning-curves", run), f"Learning curves of {format_label(run)}"
    entries = Journal(RunDirectory(run.path).journal).read()
    svg = draw_learning_curves(entries, run.record.config, name=name, title=title)
    return Picture(name=name, caption=f"{title}. {CAPTION}", svg=svg)


@themed()
def build_comparison(runs: Sequence[MeasuredRun]) -> Picture:
    """Validation top-1 error and training loss of several runs against epochs."""
    figure = Figure(figsize=(9, 3.8 + 0.18 * len(runs)), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    for number, run in enumerate(runs):
        line = {"label": format_label(run), **choose_line(number)}
        draw_curve(errors, [(epoch, 100 * error) for epoch, error in run.val_top1_errors], **line, marker="o")
        entries = Journal(RunDirectory(run.path).journal).read_metric("train/loss")
        draw_curve(losses, average_by_epoch(entries), **line)
    for num_classes in sorted({run.record.config.model.num_classes for run in runs}):
        draw_chance(errors, 100 * (1 - 1 / num_classes))
        draw_chance(losses, math.log(num_classes))
    finish_axes(errors, ylabel="validation top-1 error, %", top=102)
    finish_axes(losses, ylabel="training loss, nats")
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center")
    svg = save_svg(figure, name=COMPARISON, title="Learning curves of all runs", caption=COMPARISON_CAPTION)
    return Picture(name=COMPARISON, caption=COMPARISON_CAPTION, svg=svg)
