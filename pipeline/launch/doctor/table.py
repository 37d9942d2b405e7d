"""What was found on one node or several as one table."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.launch.doctor.finding import Finding

MARKS = {"well": "✓", "ill": "✗", "skipped": "–"}
SUBJECT_WIDTH = 16


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
