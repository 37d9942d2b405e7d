"""What the report holds, section by section."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import paper
from pipeline.errors import InputError
from pipeline.report.answer import Answer
from pipeline.report.answers import list_answers
from pipeline.report.document import Picture, Section, Table, escape_markdown, format_code
from pipeline.report.figure_four import draw_guesses, draw_neighbours, explain
from pipeline.report.figures.claims import build_claims_picture
from pipeline.report.figures.classes import build_class_errors
from pipeline.report.figures.confusion import build_confused_pairs, build_confusion_matrix
from pipeline.report.figures.figure_one import build_figure_one
from pipeline.report.figures.guesses import find_saved, read_guesses
from pipeline.report.figures.kernels import build_kernels
from pipeline.report.figures.learning import build_comparison, build_learning_curves
from pipeline.report.measured import MeasuredRun
from pipeline.report.origins import format_origins
from pipeline.report.tables import build_claims_table, build_runs_table
from pipeline.report.throughput import build_throughput_table
from pipeline.report.verdicts import RULES

TITLE = "AlexNet 2012: what the paper says, what the source recorded, what was measured"


def build_sections(
    runs: Sequence[MeasuredRun],
    *,
    results: Path,
    pictures: bool,
    data: Path | None = None,
    left_out: Sequence[str] = (),
) -> list[Section]:
    """All that is known, the paper's claims first, or the runs where they answer none of them.

    Args:
        runs: the runs.
        results: folder below which benchmarks have left their records.
        pictures: whether pictures of the data sets may be shown.
        data: where the shard set of the pictures lies now; None for where the runs read it.
        left_out: sentences on runs that could not be read.
    """
    answers = list_answers(runs)
    claims = (summarise(answers, runs), build_claims_picture(answers), build_claims_table(answers))
    claimed = [
        Section(title="Claims of the paper", parts=claims),
        Section(title="How rows are judged", parts=(RULES,)),
    ]
    measured = [
        Section(title=f"Run {run.path.name}", parts=tuple(list_run_parts(run, pictures=pictures, data=data)))
        for run in runs
    ]
    if runs or left_out:
        sentences = tuple(escape_markdown(sentence) for sentence in left_out)
        measured.insert(0, Section(title="Runs", parts=(*sentences, *list_comparisons(runs))))
    is_answered = any(answer.runs for answer in answers)
    sections = [*claimed, *measured] if is_answered else [*measured, *claimed]
    throughput = build_throughput_table(results)
    if throughput is not None:
        sections.append(Section(title="Throughput", parts=(throughput,)))
    return sections


def summarise(answers: Sequence[Answer], runs: Sequence[MeasuredRun]) -> str:
    """How many rows anybody has answered."""
    answered = sum(bool(answer.runs) for answer in answers)
    return (
        f"**{answered} of {len(answers)} rows** are answered by runs (read: {len(runs)}). Errors in percent; lower is "
        "better."
    )


def list_comparisons(runs: Sequence[MeasuredRun]) -> Iterator[str | Table | Picture]:
    """Yield what sets runs side by side."""
    if not runs:
        return
    if len(runs) > 1:
        yield build_comparison(runs)
    figure_one = build_figure_one(runs)
    if figure_one is not None:
        yield figure_one
    yield build_runs_table(runs)
    yield format_origins(runs)


def list_run_parts(run: MeasuredRun, *, pictures: bool, data: Path | None) -> Iterator[str | Table | Picture]:
    """Yield one run's figures: learning curves, Fig. 3, errors by class, Fig. 4; or why it cannot be drawn."""
    yield build_learning_curves(run)
    kernels = build_kernels(run)
    if kernels is not None:
        yield kernels
    yield from list_class_parts(run)
    if pictures:
        is_evaluated, shown = find_saved(run) is not None, (draw_guesses(run, data), draw_neighbours(run, data))
        yield from (part for part in shown if is_evaluated or isinstance(part, Picture))


def list_class_parts(run: MeasuredRun) -> Iterator[str | Table | Picture]:
    """Yield what an evaluation says of the classes."""
    try:
        guesses = read_guesses(run)
    except InputError as error:
        yield explain("Errors by class", run, error)
        return
    if guesses is None:
        command = format_code(f"alexnet evaluate {run.path.name} --neighbours {paper.FIGURE_4_QUERIES}")
        yield f"No predictions on val or test are saved: {command} makes them, for errors by class and Fig. 4."
        return
    yield build_class_errors(run, guesses)
    matrix = build_confusion_matrix(run, guesses)
    if matrix is not None:
        yield matrix
    yield build_confused_pairs(run, guesses)
