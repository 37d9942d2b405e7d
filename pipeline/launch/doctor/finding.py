"""What was found, on one node or several, as a table or as JSON."""

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

MARKS = {"well": "✓", "ill": "✗", "skipped": "–"}
SUBJECT_WIDTH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What was looked at, whether it is well, what was found, and what to do if it is not.

    `skipped` is what this machine does not have or nobody asked for. `measured` holds numbers with the unit in their
    name.
    """

    subject: str
    status: Literal["well", "ill", "skipped"]
    found: str
    advice: str = ""
    measured: dict[str, float] = field(default_factory=dict)


def well(subject: str, found: str, **measured: float) -> Finding:
    """What is as it should be."""
    return Finding(subject=subject, status="well", found=found, measured=measured)


def ill(subject: str, found: str, advice: str, **measured: float) -> Finding:
    """What has to be mended, and how."""
    return Finding(subject=subject, status="ill", found=found, advice=advice, measured=measured)


def skipped(subject: str, found: str) -> Finding:
    """What is not there, or was not asked for."""
    return Finding(subject=subject, status="skipped", found=found)


def judge(condition: object, subject: str, found: str, advice: str, **measured: float) -> Finding:
    """`well` if the condition holds, `ill` otherwise."""
    return well(subject, found, **measured) if condition else ill(subject, found, advice, **measured)


def quote(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def explain(subject: str, error: Exception, where: Path) -> Finding:
    """`ill`, with the advice that follows the last colon of our sentences, or with what the system says of a file.

    Args:
        subject: what was looked at.
        error: what came of it.
        where: the file or folder, for errors of the system that name none.
    """
    if isinstance(error, OSError):
        found = f"{error.filename or where}: {error.strerror or quote(error)}"
        return ill(subject, found, "look at that disk, and who may read and write there")
    sentence, _, advice = quote(error).rpartition(": ")
    return ill(subject, sentence or advice, advice)


def name_node() -> str:
    """This node, as Slurm calls it, or by its host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A finding, and the nodes that share it; `least` says that it is that of the node with the least."""

    nodes: tuple[str, ...]
    finding: Finding
    least: bool = False


def merge(by_node: Mapping[str, Sequence[Finding]]) -> list[Line]:
    """One line for what all nodes have alike, and one for each way in which they differ.

    Numbers that were measured differ anyway: where all is well, the node with the least of the first stands for all.
    """
    lines = []
    for subject in dict.fromkeys(finding.subject for findings in by_node.values() for finding in findings):
        found = [(node, each) for node, own in by_node.items() for each in own if each.subject == subject]
        alike: dict[tuple[str, str, str], tuple[Finding, list[str]]] = {}
        for node, each in found:
            alike.setdefault((each.status, each.found, each.advice), (each, []))[1].append(node)
        if len(alike) > 1 and all(each.status == "well" and each.measured for _, each in found):
            least = min((each for _, each in found), key=lambda each: next(iter(each.measured.values())))
            lines.append(Line(nodes=tuple(node for node, _ in found), finding=least, least=True))
        else:
            lines += [Line(nodes=tuple(nodes), finding=finding) for finding, nodes in alike.values()]
    return lines


def format_table(lines: Sequence[Line]) -> list[str]:
    """A line for each finding, with its nodes unless those are all, and one below it with the advice."""
    everywhere = {node for line in lines for node in line.nodes}
    rows = []
    for line in lines:
        finding = line.finding
        where = f"{', '.join(line.nodes)}: " if set(line.nodes) != everywhere else ""
        found = f"{where}{finding.found}{' (the least of all nodes)' if line.least else ''}"
        rows.append(f"{MARKS[finding.status]} {finding.subject:<{SUBJECT_WIDTH}} {found}")
        if finding.status == "ill":
            rows.append(f"  {'':<{SUBJECT_WIDTH}} → {finding.advice}")
    return rows


def format_json(lines: Sequence[Line], *, indent: int | None) -> str:
    """An object with `ok`, `nodes` and `findings`; on one line without `indent`."""
    findings = [{"nodes": line.nodes, **asdict(line.finding)} for line in lines]
    found = {"ok": count_ill(lines) == 0, "nodes": list_nodes(lines), "findings": findings}
    return json.dumps(found, indent=indent, ensure_ascii=False)


def count_ill(lines: Sequence[Line]) -> int:
    """Findings that ask for something to be mended."""
    return sum(line.finding.status == "ill" for line in lines)


def list_nodes(lines: Sequence[Line]) -> list[str]:
    """Nodes that findings are about, each once."""
    return list(dict.fromkeys(node for line in lines for node in line.nodes))
