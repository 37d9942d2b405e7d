"""Checkpoints: written whole or not at all, proved before they are used, never of another experiment."""

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts import RunRecord, from_json, to_json, write_bytes
from pipeline.config import ExperimentConfig
from pipeline.errors import check
from pipeline.experiments import find_differences


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Everything that training needs to go on. Randomness is a function of seed and position, so no generator is kept.

    `step` counts optimiser steps in all; `val_top1_errors` holds one error per finished epoch, in order;
    `draws_digest` is that of the order and draws of the epoch to go on with.
    """

    experiment: str
    config: ExperimentConfig
    data_digest: str
    step: int
    steps_per_epoch: int
    val_top1_errors: tuple[float, ...]
    draws_digest: str
    model: dict[str, Any]
    optimizer: dict[str, Any]

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return self.step // self.steps_per_epoch


DIGEST_BYTES = hashlib.sha256().digest_size


def write_checkpoint(directory: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write `step-N.pt`, torch's file with its SHA-256 at the end, then remove all but the `keep` newest."""
    content = io.BytesIO()
    torch.save(
        {
            "experiment": checkpoint.experiment,
            "config": to_json(checkpoint.config).decode(),
            "data_digest": checkpoint.data_digest,
            "step": checkpoint.step,
            "steps_per_epoch": checkpoint.steps_per_epoch,
            "val_top1_errors": list(checkpoint.val_top1_errors),
            "draws_digest": checkpoint.draws_digest,
            "model": checkpoint.model,
            "optimizer": checkpoint.optimizer,
        },
        content,
    )
    digest = hashlib.sha256(content.getbuffer()).digest()
    content.seek(0, io.SEEK_END)
    content.write(digest)
    path = directory / f"step-{checkpoint.step:08d}.pt"
    write_bytes(path, content.getvalue())
    for old in find_checkpoints(directory)[:-keep]:
        old.unlink()
    return path


def find_checkpoints(directory: Path) -> list[Path]:
    """Checkpoints of a directory, oldest first, by step."""
    steps = {path: re.fullmatch(r"step-(\d+)\.pt", path.name) for path in directory.glob("step-*.pt")}
    return sorted((path for path, match in steps.items() if match), key=lambda path: int(path.stem.split("-")[1]))


def read_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint after proving its checksum.

    Raises:
        InputError: the file is missing, damaged, or not a checkpoint of this project.
    """
    check(path.is_file(), f"{path} does not exist")
    content = path.read_bytes()
    check(
        hashlib.sha256(memoryview(content)[:-DIGEST_BYTES]).digest() == content[-DIGEST_BYTES:],
        f"{path} is damaged, or no checkpoint that `alexnet train` wrote: "
        "remove it, so that the checkpoint before it is used",
    )
    state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    check("draws_digest" in state, f"{path} was written by an earlier version: go on with that version, or start anew")
    return Checkpoint(
        experiment=state["experiment"],
        config=from_json(state["config"], ExperimentConfig, path),
        data_digest=state["data_digest"],
        step=state["step"],
        steps_per_epoch=state["steps_per_epoch"],
        val_top1_errors=tuple(state["val_top1_errors"]),
        draws_digest=state["draws_digest"],
        model=state["model"],
        optimizer=state["optimizer"],
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
