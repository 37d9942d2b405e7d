"""The ledger: one JSON line for each picture that was odd, with what was done about it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipeline.artifacts import Split, write_bytes

Action = Literal["dropped", "kept"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """What happened to one picture."""

    split: Split
    key: str
    file: str
    action: Action
    detail: str


def write_ledger(path: Path, entries: Iterable[LedgerEntry]) -> None:
    """Write `ledger.jsonl`, in the order given."""
    write_bytes(path, "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries).encode())
