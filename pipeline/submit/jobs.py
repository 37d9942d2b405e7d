"""The jobs of a chain: which script of slurm/ each runs, with which words, after which others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Stage = Literal["preprocess", "train", "evaluate", "ensemble", "report"]
RESUMABLE: tuple[Stage, ...] = ("preprocess", "train", "evaluate")
"""Stages that stop at a signal and are requeued; the others take minutes."""
RANKED: tuple[Stage, ...] = ("train", "evaluate")
"""Stages that run in a rank per GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One job of a chain.

    `folder` takes its logs and the record of its submission, `makes` is what the stage writes; `array` holds the
    numbers of an array's tasks, as Slurm writes them. The job starts when those that `after` names have ended well, or
    `after_any` however they ended.
    """

    name: str
    stage: Stage
    folder: Path
    makes: Path
    words: tuple[str, ...]
    array: str | None = None
    after: tuple[str, ...] = ()
    after_any: bool = False

    @property
    def log(self) -> Path:
        """Where the job writes, as Slurm writes it: %j, and %A and %a of an array, become numbers."""
        return self.folder / f"alexnet-{self.name}-{'%A-%a' if self.array else '%j'}.log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """Jobs in the order in which they are submitted, and what is said of those that are not needed.

    `folder` belongs to the chain as a whole; `num_parts` is how many parts the shard set is made in.
    """

    folder: Path
    jobs: tuple[Job, ...]
    said: tuple[str, ...] = ()
    num_parts: int | None = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where records and logs go, each once; the chain's own comes first."""
        return tuple(dict.fromkeys((self.folder, *(job.folder for job in self.jobs))))
