"""The report stage: read runs, write `report.md`, `report.html`, figures and tables."""

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.artifacts import read_shard_set, write_bytes
from pipeline.errors import InputError, check
from pipeline.options import ReportConfig
from pipeline.report.document import Picture, Section, Table, escape_markdown, format_count
from pipeline.report.html import render_html
from pipeline.report.measured import MeasuredRun, call_by_name, read_run
from pipeline.report.page import check_own_page, format_mark
from pipeline.report.sections import TITLE, build_sections


def report(config: ReportConfig) -> Path:
    """Write the report on `config.runs` and the runs of `config.tracking_uri`.

    Returns:
        Path of `report.md`.

    Raises:
        InputError: a path is no run directory, `config.data` is the shard set of none, or what is at `config.out`
            stands in the way.
        RunError: the tracking server cannot be read.
    """
    path, page = config.out / "report.md", config.out / "report.html"
    check_out(config.out)
    check_own_page(path, "report")
    with TemporaryDirectory() as taken:
        runs, left_out = [read_run(path) for path in config.runs], list[str]()
        if config.tracking_uri is not None:
            found, left_out = read_tracked(config.tracking_uri, Path(taken))
            runs += found
        runs, copies = leave_out_copies(runs)
        left_out += copies
        if config.data is not None:
            check_data(config.data, runs)
        sections = build_sections(
            runs, results=config.out, pictures=config.pictures, data=config.data, left_out=left_out
        )
    text = format_markdown(sections)
    known, written = (list_files(path.read_text()) if path.exists() else set()), list_files(text)
    check_foreign(config.out, written - known)
    write_bytes(path, text.encode())  # first: it says which of the others are ours
    for part in (part for section in sections for part in section.parts):
        if isinstance(part, Table):
            part.write(config.out / "tables")
        elif isinstance(part, Picture):
            write_bytes(config.out / "figures" / f"{part.name}.svg", part.svg)
    write_bytes(page, render_html(TITLE, sections).encode())
    for name in known - written:  # those of an earlier report
        (config.out / name).unlink(missing_ok=True)
    for sentence in left_out:
        print(f"report: {sentence}")
    print(f"report: {format_count(len(runs), 'run')} in {path} and {page}")
    return path


def read_tracked(uri: str, folder: Path) -> tuple[list[MeasuredRun], list[str]]:
    """The runs of a tracking server, and a sentence for each that is left out: one among many stops no report.

    Raises:
        InputError: the address is none, or names an sqlite file that is not there.
        RunError: the server cannot be reached or refuses.
    """
    from pipeline.tracking.download import download_runs

    paths, sentences = download_runs(uri, folder)
    runs = list[MeasuredRun]()
    for path in paths:
        try:
            runs.append(read_run(path))
        except InputError as error:
            sentences.append(f"{path.name} is left out: {call_by_name(str(error), path)}")
    return runs, sentences


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be made or written to, before any run is read.

    Raises:
        InputError: it is one.
    """
    for folder in (out, out / "figures", out / "tables"):
        found = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        check(found.is_dir(), f"--out {out} cannot be a folder: {found} is a file; choose another place")
        writable = os.access(found, os.W_OK | os.X_OK, effective_ids=True)
        check(writable, f"--out {out} cannot be written: you may not write to {found}; choose another place")


def check_foreign(out: Path, names: Collection[str]) -> None:
    """Refuse to replace files that no report lists.

    Raises:
        InputError: there is one.
    """
    found = next((out / name for name in sorted(names) if (out / name).exists()), None)
    check(found is None, f"{found} exists and is of no report in --out {out}: move it away, or choose another place")


def check_data(data: Path, runs: Sequence[MeasuredRun]) -> None:
    """Refuse a shard set that no run was trained on.

    Raises:
        InputError: it is one, or none at all.
    """
    digest = read_shard_set(data).info.digest
    known = ", ".join(sorted({run.record.data_digest[:12] for run in runs}))
    check(
        any(run.record.data_digest == digest for run in runs),
        f"--data {data} has the digest {digest[:12]}, and no run was trained on it but on {known or 'nothing'}: "
        "pass theirs, or leave it out",
    )


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
    """The page, figures and tables that a report links, by their paths from it."""
    return set(re.findall(r"\]\((report\.html|(?:figures|tables)/[\w-]+\.(?:svg|csv|tex))\)", text))
