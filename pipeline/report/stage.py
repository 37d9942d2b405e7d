"""The report stage: read runs, write `report.md` and its figures."""

from pathlib import Path

from pipeline import paper
from pipeline.artifacts import write_bytes
from pipeline.options import ReportConfig
from pipeline.report.figures import draw_claims, draw_curves
from pipeline.report.measured import find_answer, read_run
from pipeline.report.page import check_own_page, format_mark
from pipeline.report.table import format_claims, format_origins, format_runs

RULES = (
    "Errors in percent; lower is better. A row is taken only by a run of the registered experiment, from committed "
    "code, through all its epochs, on the whole data set. Rows that nobody ran say so; differences between two "
    "experiments, ensembles and pre-trained nets are not filled in yet, whoever ran them."
)


def report(config: ReportConfig) -> Path:
    """Write the report on `config.runs`; no run at all gives a table of claims that nobody has run.

    Returns:
        Path of `report.md`.

    Raises:
        InputError: a path is no run directory, or `report.md` is there and is no report.
    """
    path = config.out / "report.md"
    check_own_page(path, "report")
    runs = [read_run(run) for run in config.runs]
    num_answered = sum(find_answer(claim, runs) is not None for claim in paper.CLAIMS)
    write_bytes(config.out / "claims.svg", draw_claims(runs))
    parts = [
        format_mark("report"),
        "# AlexNet 2012: what the paper says, what the source recorded, what was measured",
        RULES,
        f"**{num_answered} of {len(paper.CLAIMS)} rows** are answered by the {len(runs)} runs that follow the table.",
        "![Every claim as a point](claims.svg)",
        format_claims(runs),
    ]
    if runs:
        write_bytes(config.out / "curves.svg", draw_curves(runs))
        parts += ["## Runs", "![Learning curves](curves.svg)", format_runs(runs), format_origins(runs)]
    write_bytes(path, ("\n\n".join(part for part in parts if part) + "\n").encode())
    print(f"report: {len(runs)} runs in {path}")
    return path
