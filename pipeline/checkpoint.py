"""Checkpoints: written whole or not at all, proved before they are used, never of another experiment."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline.artifacts import RunRecord, from_json, list_steps, to_json, write_bytes
from pipeline.config import ExperimentConfig
from pipeline.errors import check
from pipeline.experiments import find_differences


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Everything that training needs to go on. Randomness is a function of seed and position, so no generator is kept.

    `step` counts optimiser steps in all; `evaluations` holds pairs of finished epochs and validation top-1 error, in
    order; `draws_digest` is that of the order and draws of the epoch to go on with; `scaler` is empty but in float16;
    `stalled` says whether a stall has been reported that has not ended.
    """

    experiment: str
    config: ExperimentConfig
    data_digest: str
    step: int
    steps_per_epoch: int
    evaluations: tuple[tuple[int, float], ...]
    draws_digest: str
    stalled: bool
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return self.step // self.steps_per_epoch

    @property
    def best_step(self) -> int | None:
        """Step after which the validation error was lowest, the first of several; None before any evaluation."""
        best = min(self.evaluations, key=lambda evaluation: evaluation[1], default=None)
        return best and best[0] * self.steps_per_epoch


DIGEST_BYTES = hashlib.sha256().digest_size


def write_checkpoint(directory: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write `step-N.pt`, torch's file with its SHA-256 at the end; the `keep` newest up to it and the best stay."""
    content = io.BytesIO()
    torch.save(
        {
            "experiment": checkpoint.experiment,
            "config": to_json(checkpoint.config).decode(),
            "data_digest": checkpoint.data_digest,
            "step": checkpoint.step,
            "steps_per_epoch": checkpoint.steps_per_epoch,
            "evaluations": [list(evaluation) for evaluation in checkpoint.evaluations],
            "draws_digest": checkpoint.draws_digest,
            "stalled": checkpoint.stalled,
            "model": checkpoint.model,
            "optimizer": checkpoint.optimizer,
            "scaler": checkpoint.scaler,
        },
        content,
    )
    digest = hashlib.sha256(content.getbuffer()).digest()
    content.seek(0, io.SEEK_END)
    content.write(digest)
    path = name_checkpoint(directory, checkpoint.step)
    write_bytes(path, content.getvalue())
    best = None if checkpoint.best_step is None else name_checkpoint(directory, checkpoint.best_step)
    found = find_checkpoints(directory)
    for old in found[: max(0, found.index(path) + 1 - keep)]:  # what is newer is damaged, or training had not gone back
        if old != best:
            old.unlink()
    return path


def name_checkpoint(directory: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return directory / f"step-{step:08d}.pt"


def find_checkpoints(directory: Path) -> list[Path]:
    """Checkpoints of a directory, oldest first, by step."""
    return [name_checkpoint(directory, step) for step in list_steps(directory)]


def find_sound(directory: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of a directory that is not damaged, and a sentence for each newer one that is.

    Raises:
        InputError: there are checkpoints, and all are damaged.
    """
    sentences: list[str] = []
    found = find_checkpoints(directory)
    for path in reversed(found):
        if is_sound(path):
            return path, [f"{sentence}, going back to {path.name}" for sentence in sentences]
        sentences.append(f"{path} is damaged")
    check(
        not found, f"all checkpoints in {directory} are damaged ({', '.join(path.name for path in found)}): start anew"
    )
    return None, []


def find_chosen(directory: Path, choice: Literal["last", "best"]) -> tuple[Path | None, list[str]]:
    """The newest sound checkpoint, or that of the lowest validation error; warnings as of `find_sound`.

    Raises:
        InputError: all are damaged, or the best is no longer there.
    """
    newest, warnings = find_sound(directory)
    if newest is None or choice == "last":
        return newest, warnings
    step = read_checkpoint(newest).best_step
    best = newest if step is None else name_checkpoint(directory, step)
    check(best.is_file(), f"{best} had the lowest validation error and is gone: take --checkpoint last")
    return best, warnings


def is_sound(path: Path) -> bool:
    """Whether the file's checksum is that of its content."""
    return _is_whole(path.read_bytes())


def _is_whole(content: bytes) -> bool:
    return hashlib.sha256(memoryview(content)[:-DIGEST_BYTES]).digest() == content[-DIGEST_BYTES:]


def read_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint after proving its checksum.

    Raises:
        InputError: the file is missing, damaged, or not a checkpoint of this project.
    """
    check(path.is_file(), f"{path} does not exist")
    content = path.read_bytes()
    check(
        _is_whole(content),
        f"{path} is damaged, or no checkpoint that `alexnet train` wrote: "
        "remove it, so that the checkpoint before it is used",
    )
    state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    check("evaluations" in state, f"{path} was written by an earlier version: go on with that version, or start anew")
    return Checkpoint(
        experiment=state["experiment"],
        config=from_json(state["config"], ExperimentConfig, path),
        data_digest=state["data_digest"],
        step=state["step"],
        steps_per_epoch=state["steps_per_epoch"],
        evaluations=tuple((epoch, error) for epoch, error in state["evaluations"]),
        draws_digest=state["draws_digest"],
        stalled=state["stalled"],
        model=state["model"],
        optimizer=state["optimizer"],
        scaler=state["scaler"],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a run is asked to be."""

    experiment: str
    config: ExperimentConfig
    data_digest: str


def check_belongs(path: Path, found: Identity | RunRecord | Checkpoint, wanted: Identity) -> None:
    """Refuse to go on with what another experiment, configuration or shard set left at `path`.

    Raises:
        InputError: they differ; the message names what differs.
    """
    check(
        found.experiment == wanted.experiment,
        f"{path} belongs to experiment {found.experiment!r}, not {wanted.experiment!r}: choose another --out",
    )
    differences = find_differences(found.config, wanted.config)
    listed = ", ".join(f"{field} is {there} there and {now} now" for field, (there, now) in differences.items())
    check(
        not differences, f"{path} was made with another configuration ({listed}): use the same flags or another --out"
    )
    check(
        found.data_digest == wanted.data_digest,
        f"{path} was trained on the shard set {found.data_digest[:12]}, not on {wanted.data_digest[:12]}: "
        "pass that set as --data",
    )
