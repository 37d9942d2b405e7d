"""The report's figures: every claim as a point, and the runs' learning curves."""

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from pipeline import paper
from pipeline.report.measured import MeasuredRun, compute_interval, find_answer

PAPER_COLOR, SOURCE_COLOR, MEASURED_COLOR = "#b2182b", "#2166ac", "#1a1a1a"


def draw_claims(runs: Sequence[MeasuredRun]) -> bytes:
    """Top-1 error of each absolute claim: paper, source's own record, measured with its 95% interval. SVG."""
    claims = [claim for claim in paper.CLAIMS if claim.worse_than is None and (claim.paper.top1 or 0) > 0.1]
    figure = Figure(figsize=(8, 0.42 * len(claims) + 1.4), layout="constrained")
    axes = figure.subplots()
    for row, claim in enumerate(claims):
        assert claim.paper.top1 is not None
        axes.plot(claim.paper.top1 * 100, row, "D", color=PAPER_COLOR, markersize=7, label="paper")
        if claim.source is not None and claim.source.top1 is not None:
            axes.plot(claim.source.top1 * 100, row, "|", color=SOURCE_COLOR, markersize=17, mew=2, label="source")
        answer = find_answer(claim, runs)
        if answer is None:
            axes.annotate(
                "not run", (claim.paper.top1 * 100, row), (10, -3), textcoords="offset points", fontsize=8, color="0.45"
            )
            continue
        _, evaluation = answer
        low, high = compute_interval(evaluation.num_top1_errors, evaluation.num_images)
        axes.plot([low * 100, high * 100], [row, row], color=MEASURED_COLOR)
        axes.plot(evaluation.top1_error * 100, row, "o", color=MEASURED_COLOR, label="measured, 95% interval")
    axes.set_yticks(range(len(claims)), [f"{claim.text} ({claim.where})" for claim in claims])
    axes.invert_yaxis()
    axes.set_xlabel("top-1 error on ImageNet, %")
    axes.margins(x=0.2, y=0.08)
    axes.grid(axis="x", color="0.9")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=3, fontsize=8)
    return save_svg(figure)


def draw_curves(runs: Sequence[MeasuredRun]) -> bytes:
    """Validation top-1 error and training loss of each run against epochs, with chance as a dashed line. SVG."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    for run in runs:
        label = format_label(run)
        errors.plot(*_split([(epoch, error * 100) for epoch, error in run.val_top1_errors]), "o-", ms=4, label=label)
        losses.plot(*_split(run.train_losses), label=label)
    for chance in sorted({100 * (1 - 1 / run.record.config.model.num_classes) for run in runs}):
        errors.axhline(chance, color="0.6", linestyle="--", linewidth=1)
        errors.annotate("chance", (0, chance), (4, -11), ("axes fraction", "data"), "offset points", fontsize=8)
    errors.set(xlabel="epochs", ylabel="validation top-1 error, centre patch, %", ylim=(0, 105), xlim=(0, None))
    losses.set(xlabel="epochs", ylabel="training loss, nats", ylim=(0, None), xlim=(0, None))
    for axes in (errors, losses):
        axes.grid(color="0.92")
    handles, labels = errors.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", fontsize=8)
    return save_svg(figure)


def format_label(run: MeasuredRun) -> str:
    """Name of a run in a legend."""
    prefix = "" if run.path.name == run.record.experiment else f"{run.path.name}: "
    return f"{prefix}{run.record.experiment} ({run.record.status})"


def _split(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def save_svg(figure: Figure) -> bytes:
    """The figure as SVG; the same figure gives the same bytes."""
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "alexnet"}):
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()
