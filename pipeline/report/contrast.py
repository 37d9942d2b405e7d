"""Recipes side by side: who left chance, by a stated rule; a panel of curves each, and a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tabulate import tabulate

from pipeline.drawing import GRID, MEASURED_COLOR, MUTED, PAPER_COLOR, SOURCE_COLOR, save_svg, themed
from pipeline.report.measured import MeasuredRun
from pipeline.report.page import write_page

LEARNED = 0.5
"""A run with a final error below this has left chance."""
MARGIN = 0.1
"""A run whose error is never further below chance than this has not left it."""
MAX_COLUMNS = 3
CAPTION = "A panel for each recipe: validation top-1 error by epoch, a thin line a seed, a thick one their mean"

Verdict = Literal["left chance", "learned, then died", "never left chance", "in between", "not finished"]
RULE = (
    f"**left chance**: the last epoch's error is below {LEARNED:.0%}; **never left chance**: no epoch's is more than "
    f"{MARGIN:.0%} (absolute) below chance; **learned, then died**: some epoch's is, the last one's is not; **in "
    "between**: none of these; **not finished**: epochs are missing."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeRuns:
    """A recipe and what became of it."""

    name: str
    words: str
    runs: Mapping[int, MeasuredRun]
    """By seed."""


def judge_learning(run: MeasuredRun) -> Verdict:
    """What became of a run, by `RULE`, from its validation top-1 errors."""
    errors = [error for _, error in run.val_top1_errors]
    near_chance = find_chance(run) - MARGIN
    if not has_ended(run):
        return "not finished"
    if errors[-1] < LEARNED:
        return "left chance"
    if min(errors) >= near_chance:
        return "never left chance"
    return "learned, then died" if errors[-1] >= near_chance else "in between"


def has_ended(run: MeasuredRun) -> bool:
    """Whether a run has the validation error of its last epoch."""
    return run.val_top1_errors[-1:] != () and run.val_top1_errors[-1][0] >= run.record.config.schedule.epochs


def find_chance(run: MeasuredRun) -> float:
    """Top-1 error of guessing, as a fraction."""
    return 1 - 1 / run.record.config.model.num_classes


def write_contrast(out: Path, recipes: Sequence[RecipeRuns], *, command: str, threads: int) -> Path:
    """Draw all recipes and write the page beside the figure.

    Args:
        out: the result's name, without an ending.
        recipes: in the order of the table; those without a run are left out.
        command: that trained them all.
        threads: OMP_NUM_THREADS of each run.

    Returns:
        Path of the page.

    Raises:
        InputError: the page is there and of another command.
    """
    recipes = [recipe for recipe in recipes if recipe.runs]
    record = next(iter(recipes[0].runs.values())).record
    size = record.config
    about = (
        f"One tower at width {size.model.width:g} of the network, {record.num_train_images:,} training and "
        f"{record.num_val_images:,} validation pictures of {size.model.num_classes} classes, {size.schedule.epochs} "
        f"epochs in batches of {size.global_batch_size}, {size.precision}. Validation top-1 error of the centre patch "
        f"after each epoch; chance is {1 - 1 / size.model.num_classes:.0%}."
    )
    started = (
        f"All at once: `{command}`; each run with OMP_NUM_THREADS={threads}. By recipe, the other seeds with their own "
        "`--seed` and `--out`:"
    )
    return write_page(
        out,
        "contrast",
        draw_contrast(recipes),
        [
            "# Which recipe leaves chance",
            about,
            f"![{CAPTION}]({out.name}.svg)",
            format_verdicts(recipes),
            f"By the rule: {RULE}",
            "## Every run",
            format_runs(recipes),
            "## Commands",
            started,
            "\n".join(f"- **{recipe.name}**: `{get_first(recipe).record.starts[0].command}`" for recipe in recipes),
        ],
    )


def get_first(recipe: RecipeRuns) -> MeasuredRun:
    """The run of the lowest seed."""
    return recipe.runs[min(recipe.runs)]


def compute_mean(recipe: RecipeRuns) -> tuple[list[float], list[float]]:
    """Epochs, and the mean error of the seeds that have come so far."""
    curves = [dict(run.val_top1_errors) for run in recipe.runs.values()]
    epochs = sorted({epoch for curve in curves for epoch in curve})
    return epochs, [float(np.mean([curve[epoch] for curve in curves if epoch in curve])) for epoch in epochs]


@themed()
def draw_contrast(recipes: Sequence[RecipeRuns]) -> bytes:
    """A panel for each recipe: a thin line for each seed, a thick one for their mean, chance as a dashed line. SVG."""
    num_columns = min(MAX_COLUMNS, len(recipes))
    num_rows = -(-len(recipes) // num_columns)
    figure = Figure(figsize=(3.1 * num_columns + 0.4, 2.5 * num_rows + 0.5), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False).flat
    for axes, recipe in zip(panels, recipes, strict=False):
        draw_panel(axes, recipe)
    for axes in list(panels)[len(recipes) :]:
        axes.remove()
    figure.supxlabel("epochs")
    figure.supylabel("validation top-1 error, %")
    return save_svg(figure, name="contrast", title="Which recipe leaves chance", caption=CAPTION)


def draw_panel(axes: Axes, recipe: RecipeRuns) -> None:
    """One recipe's curves, in the colour of the experiment that it starts from."""
    color = {"paper": PAPER_COLOR, "source-2012": SOURCE_COLOR}.get(get_first(recipe).record.experiment, MEASURED_COLOR)
    for run in recipe.runs.values():
        epochs, errors = [epoch for epoch, _ in run.val_top1_errors], [error * 100 for _, error in run.val_top1_errors]
        axes.plot(epochs, errors, "-", color=color, linewidth=0.8, alpha=0.6)
    epochs, means = compute_mean(recipe)
    axes.plot(epochs, [mean * 100 for mean in means], "o-", color=color, linewidth=2, markersize=4)
    chance = find_chance(get_first(recipe)) * 100
    axes.axhline(chance, color=MUTED, linestyle="--", linewidth=1)
    axes.annotate(
        f"chance, {chance:.0f}%",
        (0, chance),
        (4, 3),
        ("axes fraction", "data"),
        "offset points",
        fontsize=7,
        color=MUTED,
    )
    verdicts = [judge_learning(run) for run in recipe.runs.values()]
    counted = [f"{verdict}: {verdicts.count(verdict)} of {len(verdicts)}" for verdict in dict.fromkeys(verdicts)]
    axes.set_title("\n".join([recipe.name, *counted]), fontsize=9)
    axes.set(xlim=(0, None), ylim=(0, 105))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=GRID)


def format_errors(run: MeasuredRun) -> str:
    """Validation top-1 errors by epoch, in percent."""
    return " ".join(f"{error * 100:.1f}" for _, error in run.val_top1_errors)


def format_verdicts(recipes: Sequence[RecipeRuns]) -> str:
    """A row for each recipe: what it is, its mean errors, and the verdict on each seed."""
    rows = [
        (
            recipe.name,
            recipe.words,
            " ".join(f"{mean * 100:.1f}" for mean in compute_mean(recipe)[1]),
            "; ".join(f"{seed}: {judge_learning(run)}" for seed, run in sorted(recipe.runs.items())),
        )
        for recipe in recipes
    ]
    headers = ("recipe", "what it is", "error by epoch, mean of the seeds, %", "verdict by seed")
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def format_runs(recipes: Sequence[RecipeRuns]) -> str:
    """A row for each run."""
    rows = [
        (
            recipe.name,
            seed,
            format_errors(run),
            judge_learning(run),
            f"{run.seconds:.0f}",
            ", ".join(dict.fromkeys(start.format_commit() for start in run.record.starts)),
            "; ".join(dict.fromkeys(start.format_machine() for start in run.record.starts)),
        )
        for recipe in recipes
        for seed, run in sorted(recipe.runs.items())
    ]
    headers = (
        "recipe",
        "seed",
        "error by epoch, %",
        "verdict",
        "seconds in training steps",
        "commit",
        "processes, machine",
    )
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
