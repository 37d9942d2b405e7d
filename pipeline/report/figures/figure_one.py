"""Fig. 1: how soon the training error on CIFAR-10 falls with ReLU and with tanh."""

from collections.abc import Sequence

from pipeline.artifacts import RunDirectory
from pipeline.claims import CLAIMS, EpochRatio
from pipeline.report.curves import Curve, average_by_epoch, draw_metric, find_crossing, format_crossing
from pipeline.report.document import Picture
from pipeline.report.figures.names import format_label
from pipeline.report.measured import MeasuredRun
from pipeline.tracking import Journal

NAME, METRIC = "fig1", "train/top1_error"


def build_figure_one(runs: Sequence[MeasuredRun]) -> Picture | None:
    """Training error by epoch of the runs that Fig. 1 is about; None where none of them has finished an epoch."""
    claim = next(claim.measure for claim in CLAIMS if isinstance(claim.measure, EpochRatio))
    curves = [
        Curve(run=run, points=points)
        for run in runs
        if run.record.experiment in claim.experiments
        and (points := average_by_epoch(Journal(RunDirectory(run.path).journal).read_metric(METRIC)))
    ]
    if not curves:
        return None
    reached = "; ".join(
        f"{format_label(curve.run)}: {format_crossing(find_crossing(curve.points, claim.threshold))}"
        for curve in curves
    )
    caption = (
        f"Training top-1 error on {claim.dataset} against epochs, as in Fig. 1, each point the mean of an epoch. "
        f"Epochs until it is below {claim.threshold:.0%}: {reached}."
    )
    svg = draw_metric(curves, METRIC, claim.threshold, name=NAME, caption=caption)
    return Picture(name=NAME, caption=caption, svg=svg)
