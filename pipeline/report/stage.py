"""The report stage: read runs, write `report.md`, `report.html`, figures and tables."""

import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.artifacts import write_bytes
from pipeline.errors import check
from pipeline.options import ReportConfig
from pipeline.report.document import Picture, Section, Table, escape_markdown
from pipeline.report.html import render_html
from pipeline.report.measured import MeasuredRun, read_run
from pipeline.report.page import check_own_page, format_mark
from pipeline.report.sections import TITLE, build_sections


def report(config: ReportConfig) -> Path:
    """Write the report on `config.runs` and the runs of `config.tracking_uri`; no run at all gives a table of claims.

    Returns:
        Path of `report.md`.

    Raises:
        InputError: a path is no run directory, or `report.md` is there and is no report.
        RunError: the tracking server cannot be read.
    """
    path, page = config.out / "report.md", config.out / "report.html"
    check_own_page(path, "report")
    check(path.exists() or not page.exists(), f"{page} exists without a report.md beside it: choose another --out")
    with TemporaryDirectory() as taken:
        paths, left_out = list(config.runs), list[str]()
        if config.tracking_uri is not None:
            from pipeline.tracking.download import download_runs

            found, left_out = download_runs(config.tracking_uri, Path(taken))
            paths += found
        runs, copies = leave_out_copies([read_run(run) for run in paths])
        left_out += copies
        sections = build_sections(
            runs, results=config.out, pictures=config.pictures, data=config.data, left_out=left_out
        )
    known = list_files(path.read_text()) if path.exists() else set()
    text = format_markdown(sections)
    for part in (part for section in sections for part in section.parts):
        if isinstance(part, Table):
            part.write(config.out / "tables")
        elif isinstance(part, Picture):
            write_bytes(config.out / "figures" / f"{part.name}.svg", part.svg)
    write_bytes(page, render_html(TITLE, sections).encode())
    write_bytes(path, text.encode())
    for name in known - list_files(text):  # those of an earlier report
        (config.out / name).unlink(missing_ok=True)
    for sentence in left_out:
        print(f"report: {sentence}")
    print(f"report: {len(runs)} runs in {path} and {page}")
    return path


def leave_out_copies(runs: Sequence[MeasuredRun]) -> tuple[list[MeasuredRun], list[str]]:
    """The first of each run, and a sentence for each that is another copy of it, as a server's may be."""
    found, sentences = dict[str, MeasuredRun](), list[str]()
    for run in runs:
        first = found.setdefault(run.record.id, run)
        if first is not run:
            sentences.append(f"{run.path.name} is left out: it is the same run as {first.path.name}")
    return list(found.values()), sentences


def format_markdown(sections: Sequence[Section]) -> str:
    """The sections as a page that shows the figures and links the tables beside it."""
    parts = [
        format_mark("report"),
        f"# {TITLE}",
        "The same as a page that sorts and zooms: [report.html](report.html).",
    ]
    for section in sections:
        parts += [f"## {escape_markdown(section.title)}", *map(format_part, section.parts)]
    return "\n\n".join(parts) + "\n"


def format_part(part: str | Table | Picture) -> str:
    """One part in Markdown."""
    if isinstance(part, Picture):
        caption = escape_markdown(part.caption)
        return f"![{caption}](figures/{part.name}.svg)\n\n{caption}"
    if isinstance(part, Table):
        links = ", ".join(
            f"[{kind}](tables/{part.name}.{ending})" for kind, ending in (("CSV", "csv"), ("LaTeX", "tex"))
        )
        return f"{part.format_markdown()}\n\n{links}"
    return part


def list_files(text: str) -> set[str]:
    """Figures and tables that a report shows, by their paths from it."""
    return set(re.findall(r"\]\(((?:figures|tables)/[\w-]+\.(?:svg|csv|tex))\)", text))
