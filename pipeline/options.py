"""What must not change numbers: what each command reads, writes and may use."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import check

Device = Literal["auto", "cpu", "cuda"]
"""Where the network runs; `auto` takes the GPU when there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig:
    """Everything that must not change numbers."""

    data: Path
    """Shard set: the directory that `alexnet preprocess` wrote."""
    out: Path
    """Run directory, made by this run; with --resume, the one to go on with."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""
    num_threads: int = 2
    """Threads that decode and augment, per rank."""
    log_every: int = 20
    """Steps between two entries of the training loss in the journal."""
    keep_checkpoints: int = 2
    """Newest checkpoints that stay on disk."""
    max_steps: int | None = None
    """Stop after this many optimiser steps in all, as if the time were up; None runs to the end."""

    def __post_init__(self) -> None:
        check(self.num_threads > 0, f"--num-threads must be positive, found {self.num_threads}")
        check(self.log_every > 0, f"--log-every must be positive, found {self.log_every}")
        check(self.keep_checkpoints > 0, f"--keep-checkpoints must be positive, found {self.keep_checkpoints}")
        check(self.max_steps is None or self.max_steps > 0, f"--max-steps must be positive, found {self.max_steps}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig:
    """What the preprocess stage reads, writes and allows."""

    source: Path
    """Folder with train/CLASS/NAME and val/CLASS/NAME, or with CLASS/NAME."""
    out: Path
    """Shard set to write; must not exist yet."""
    val_fraction: float | None = None
    """Share of the training pictures to hold out as val where the source has no val/."""
    images_per_shard: int = 5000
    """Pictures in one tar file; a worker packs a whole tar, so take fewer for a small set on many cores."""
    workers: int = len(os.sched_getaffinity(0))
    """Processes that decode, resize and encode."""
    max_dropped: float = 0.001
    """Largest share of undecodable pictures before the run stops."""
    seed: int = 0
    """Seeds the shuffle and the hold-out."""

    def __post_init__(self) -> None:
        check(self.images_per_shard > 0, f"--images-per-shard must be positive, found {self.images_per_shard}")
        check(self.workers > 0, f"--workers must be positive, found {self.workers}")
        check(0 <= self.max_dropped <= 1, f"--max-dropped must lie in [0, 1], found {self.max_dropped}")
        check(self.seed >= 0, f"--seed must not be negative, found {self.seed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """What the evaluate stage measures."""

    run: Path
    """Run directory that `alexnet train` wrote."""
    data: Path | None = None
    """Shard set, if it has moved since training."""
    split: Literal["train", "val", "test"] = "val"
    """Split whose pictures are classified."""
    views: tuple[Literal["center", "ten"], ...] = ("center", "ten")
    """Views of each picture whose probabilities are averaged: the centre patch, or ten patches."""
    batch_size: int = 256
    """Patches per rank that go through the network at once."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""
    num_threads: int = 2
    """Threads that decode, per rank."""

    def __post_init__(self) -> None:
        check(len(self.views) > 0, "--views must name at least one of center, ten")
        check(self.batch_size > 0, f"--batch-size must be positive, found {self.batch_size}")
        check(self.num_threads > 0, f"--num-threads must be positive, found {self.num_threads}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig:
    """What the report stage reads and writes."""

    runs: tuple[Path, ...]
    """Run directories that `alexnet train` and `alexnet evaluate` wrote."""
    out: Path = Path("results")
    """Directory for report.md and its figures; an earlier report there is replaced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """The tour through all stages on handwritten digits."""

    experiment: Literal["source-2012", "paper"] = "source-2012"
    """What to train: what the winning code did, or what the text says."""
    out: Path = Path("runs/demo")
    """Where pictures, shards, runs and report go; a second start goes on there."""
    processes: int = 2
    """Training processes, each a rank."""

    def __post_init__(self) -> None:
        check(self.processes > 0, f"--processes must be positive, found {self.processes}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """What is timed, and where the numbers go."""

    data: Path | None = None
    """Shard set to read; None packs pictures of noise first, into a temporary folder."""
    out: Path = Path("results")
    """Directory for the JSON file."""
    experiment: str = "source-2012"
    """Experiment whose network and augmentation are timed."""
    batch_size: int = 128
    """Images per step."""
    num_steps: int = 30
    """Steps that are timed, after three that are not."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""
    num_threads: int = 2
    """Threads that decode and augment."""

    def __post_init__(self) -> None:
        check(self.batch_size > 0, f"--batch-size must be positive, found {self.batch_size}")
        check(self.num_steps > 0, f"--num-steps must be positive, found {self.num_steps}")
        check(self.num_threads > 0, f"--num-threads must be positive, found {self.num_threads}")
