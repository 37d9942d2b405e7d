"""The ledger: one JSON line for each picture that was odd and for what was left out, with what was done about it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.artifacts import Split

Action = Literal["kept", "dropped", "ignored"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """What happened to one picture, or, where `key` is empty, to several files of a folder."""

    split: Split
    key: str
    file: str
    action: Action
    detail: str


def format_ledger(entries: Iterable[LedgerEntry]) -> bytes:
    """Content of `ledger.jsonl`, in the order given."""
    return "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries).encode()
