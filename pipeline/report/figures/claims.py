"""Every claim with numbers as a point: the paper's, the source's own record, the measured one with its interval."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.claims import ErrorRise, Errors
from pipeline.drawing import GRID, MEASURED_COLOR, MUTED, PAPER_COLOR, SOURCE_COLOR, save_svg, themed
from pipeline.report.answer import Answer, Measurement
from pipeline.report.document import Picture

NAME = "claims"
TITLE = "What the paper claims beside what was measured"
CAPTION = (
    "Every claim that is an error or a difference of errors: the paper's number, the source's own record, and what was "
    "measured with its 95% interval. Top-1 on the left, top-5 on the right."
)
ROW_INCHES = 0.25


@themed()
def build_claims_picture(answers: Sequence[Answer]) -> Picture:
    """Draw the claims with numbers in the order given, errors above differences of errors, their verdicts beside."""
    numbers = [answer for answer in answers if isinstance(answer.claim.paper, Errors)]
    groups = [
        ("error, %", [answer for answer in numbers if not isinstance(answer.claim.measure, ErrorRise)]),
        ("worse by, percentage points", [answer for answer in numbers if isinstance(answer.claim.measure, ErrorRise)]),
    ]
    heights = [max(1, len(group)) for _, group in groups]
    figure = Figure(figsize=(10, ROW_INCHES * sum(heights) + 2), layout="constrained")
    panels = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
    for (xlabel, group), (left, right) in zip(groups, panels, strict=True):
        draw_points(left, group, "top1")
        draw_points(right, group, "top5")
        left.set_xlabel(f"top-1: {xlabel}")
        right.set_xlabel(f"top-5: {xlabel}")
        left.set_yticks(range(len(group)), [f"{answer.claim.text} ({answer.claim.where})" for answer in group])
        right.yaxis.tick_right()
        right.set_yticks(range(len(group)), [answer.verdict for answer in group])
    add_legend(figure)
    return Picture(name=NAME, caption=CAPTION, svg=save_svg(figure, name=NAME, title=TITLE, caption=CAPTION))


def draw_points(axes: Axes, answers: Sequence[Answer], rank: str) -> None:
    """A row for each answer, from the top: its numbers of one rank, `top1` or `top5`, in percent."""
    for row, answer in enumerate(answers):
        paper, source = (getattr(errors, rank, None) for errors in (answer.claim.paper, answer.claim.source))
        measured: Measurement | None = getattr(answer, rank)
        if paper is not None:
            axes.plot(100 * paper, row, "D", color=PAPER_COLOR, markersize=6)
        if source is not None:
            axes.plot(100 * source, row, "|", color=SOURCE_COLOR, markersize=14, markeredgewidth=2)
        if measured is not None:
            below = row + 0.25
            axes.plot([100 * end for end in measured.interval], [below, below], "-|", color=MEASURED_COLOR)
            axes.plot(100 * measured.value, below, "o", color=MEASURED_COLOR, markersize=5)
    axes.set_ylim(len(answers) - 0.4, -0.6)
    axes.margins(x=0.1)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(color=GRID)
    if axes.get_xlim()[0] < 0 < axes.get_xlim()[1]:
        axes.axvline(0, color=MUTED, linewidth=1)


def add_legend(figure: Figure) -> None:
    """What the three marks are, whether or not the figure has one of each."""
    axes = figure.axes[0]
    marks = [
        axes.plot([], [], "D", color=PAPER_COLOR, markersize=6, label="paper")[0],
        axes.plot([], [], "|", color=SOURCE_COLOR, markersize=14, markeredgewidth=2, label="source's own record")[0],
        axes.plot([], [], "-o", color=MEASURED_COLOR, markersize=5, label="measured, 95% interval")[0],
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
