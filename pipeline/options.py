"""What must not change numbers: what each command reads, writes and may use.

Slots make a second class of each dataclass, which a bare `super()` would miss: hence `super(Class, self)`.
"""

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from pipeline.errors import check

Device = Literal["auto", "cpu", "cuda"]
"""Where the network runs; `auto` takes the GPU when there is one."""
Split = Literal["train", "val", "test"]
Layout = Literal["ilsvrc2012", "ilsvrc2010", "folders", "cifar10", "fashion-mnist"]
"""What a source is: official archives, class folders (or a tar of them), or torchvision's files."""
Resize = Literal["crop", "warp"]
Encoding = Literal["jpeg", "jpeg-420", "raw", "png"]

Decoder = Literal["auto", "cpu", "mixed"]

MAX_JPEG_QUALITY = 100
MIN_PIXELS, MAX_PIXELS = 8, 4096


MAX_DEFAULT_THREADS = 16


def count_cores_per_rank() -> int:
    """Cores that this process may use, shared with the other ranks that torchrun started on this node."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(1, cores), MAX_DEFAULT_THREADS)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadingConfig:
    """How batches are loaded, which changes their speed and never their content, but for what is damaged."""

    num_threads: int = count_cores_per_rank()
    """Threads that decode and augment, per rank."""
    decoder: Decoder = "auto"
    """Where JPEGs are decoded: cpu, mixed (on the GPU, helped by the CPU), or auto, which is mixed on a GPU."""
    hw_decoder_load: float = 0.65
    """Share of the JPEGs that go to the GPU's own JPEG engine, where it has one."""
    on_damaged: Literal["stop", "skip"] = "stop"
    """What to do about a picture that cannot be decoded: stop, or leave it out, count it and write it down."""

    def __post_init__(self) -> None:
        check(self.num_threads > 0, f"--num-threads must be positive, found {self.num_threads}")
        check(0 <= self.hw_decoder_load <= 1, f"--hw-decoder-load must lie in [0, 1], found {self.hw_decoder_load}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig(LoadingConfig):
    """Everything that must not change numbers."""

    data: Path
    """Shard set: the directory that `alexnet preprocess` wrote."""
    out: Path
    """Run directory, made by this run; with --resume, the one to go on with."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""
    log_every: int = 20
    """Steps between two entries of the training loss in the journal."""
    keep_checkpoints: int = 2
    """Newest checkpoints that stay on disk."""
    max_steps: int | None = None
    """Stop after this many optimiser steps in all, as if the time were up; None runs to the end."""

    def __post_init__(self) -> None:
        super(RuntimeConfig, self).__post_init__()
        check(self.log_every > 0, f"--log-every must be positive, found {self.log_every}")
        check(self.keep_checkpoints > 0, f"--keep-checkpoints must be positive, found {self.keep_checkpoints}")
        check(self.max_steps is None or self.max_steps > 0, f"--max-steps must be positive, found {self.max_steps}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PackingConfig:
    """What decides the bytes of a shard set, besides the pictures."""

    layout: Layout | None = None
    """What the source is; None looks at its files."""
    allow_partial: bool = False
    """Accept fewer classes or pictures than the official data set has, or classes in one split only."""
    val_fraction: float | None = None
    """Share of the training pictures to hold out as val where the source has no val."""
    resize: Resize = "crop"
    """Shorter side to --pixels and the central square, as the paper; or the whole picture warped, as Caffe."""
    encoding: Encoding = "jpeg"
    """How pictures are stored: JPEG with full (4:4:4) or halved (4:2:0) colour, raw uint8, or lossless PNG."""
    quality: int = 95
    """Quality of the JPEGs."""
    pixels: int = 256
    """Height and width of the stored pictures."""
    images_per_shard: int | None = None
    """Pictures in one tar file, packed by one worker; None takes 64 to 5000, so that a split has about 64 files."""
    seed: int = 0
    """Seeds the shuffle and the hold-out."""

    def __post_init__(self) -> None:
        check(
            self.val_fraction is None or 0 < self.val_fraction < 1,
            f"--val-fraction must lie between 0 and 1, found {self.val_fraction}",
        )
        check(1 <= self.quality <= MAX_JPEG_QUALITY, f"--quality must lie in [1, 100], found {self.quality}")
        check(MIN_PIXELS <= self.pixels <= MAX_PIXELS, f"--pixels must lie in [8, 4096], found {self.pixels}")
        check(
            self.images_per_shard is None or self.images_per_shard > 0,
            f"--images-per-shard must be positive, found {self.images_per_shard}",
        )
        check(self.seed >= 0, f"--seed must not be negative, found {self.seed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessConfig(PackingConfig):
    """What the preprocess stage reads, writes and allows."""

    source: Path
    """Folder with the official archives, train/CLASS/NAME and val/CLASS/NAME, or CLASS/NAME; or such a tar."""
    out: Path
    """Shard set to write; one that was begun with the same flags is gone on with."""
    part: str | None = None
    """I/N does only part I of N, counted from 0, on any machine that sees --out; the last one to end merges them."""
    workers: int = len(os.sched_getaffinity(0))
    """Processes that decode, resize and encode."""
    max_dropped: float = 0.001
    """Largest share of undecodable pictures before the run stops."""
    json: bool = False
    """Print the summary as JSON on standard output, all else on standard error."""

    def __post_init__(self) -> None:
        super(PreprocessConfig, self).__post_init__()
        check(self.workers > 0, f"--workers must be positive, found {self.workers}")
        check(0 <= self.max_dropped <= 1, f"--max-dropped must lie in [0, 1], found {self.max_dropped}")
        self.parse_part()

    def parse_part(self) -> tuple[int, int]:
        """Number of this part, from 0, and how many there are; (0, 1) for all."""
        if self.part is None:
            return 0, 1
        found = re.fullmatch(r"(\d+)/(\d+)", self.part)
        number, num_parts = (int(found[1]), int(found[2])) if found else (0, 0)
        check(number < num_parts, f"--part must be I/N with I from 0 to N - 1, such as 0/4 to 3/4, found {self.part!r}")
        return number, num_parts

    @property
    def packing(self) -> PackingConfig:
        """The fields that decide bytes."""
        return PackingConfig(**{field.name: getattr(self, field.name) for field in fields(PackingConfig)})


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeConfig:
    """What `preprocess merge` describes."""

    shards: Path
    """Shard set whose parts are all done."""
    max_dropped: float = 0.001
    """Largest share of undecodable pictures."""

    def __post_init__(self) -> None:
        check(0 <= self.max_dropped <= 1, f"--max-dropped must lie in [0, 1], found {self.max_dropped}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusConfig:
    """What `preprocess status` looks at."""

    shards: Path
    """Shard set that is being made."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyConfig:
    """What `preprocess verify` proves."""

    shards: Path
    """Shard set."""
    deep: bool = False
    """Decode every picture, too, and compute the statistics again."""
    workers: int = len(os.sched_getaffinity(0))
    """Processes that read and decode."""
    json: bool = False
    """Print JSON."""

    def __post_init__(self) -> None:
        check(self.workers > 0, f"--workers must be positive, found {self.workers}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairConfig:
    """What `preprocess repair` mends."""

    shards: Path
    """Shard set."""
    source: Path
    """Pictures that it was made from."""
    workers: int = len(os.sched_getaffinity(0))
    """Processes that read, decode and encode."""

    def __post_init__(self) -> None:
        check(self.workers > 0, f"--workers must be positive, found {self.workers}")


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectConfig:
    """What `preprocess inspect` shows."""

    shards: Path
    """Shard set."""
    out: Path = Path("contact-sheet.png")
    """Picture to write; must not exist yet."""
    split: Split = "train"
    """Split to take pictures from."""
    num_images: int = 48
    """Pictures on the sheet, spread over the classes."""
    seed: int = 0
    """Seeds the choice."""
    json: bool = False
    """Print what the set holds as JSON."""

    def __post_init__(self) -> None:
        check(self.num_images > 0, f"--num-images must be positive, found {self.num_images}")
        check(self.seed >= 0, f"--seed must not be negative, found {self.seed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig(LoadingConfig):
    """What the evaluate stage measures."""

    run: Path
    """Run directory that `alexnet train` wrote."""
    data: Path | None = None
    """Shard set, if it has moved since training."""
    split: Split = "val"
    """Split whose pictures are classified."""
    views: tuple[Literal["center", "ten"], ...] = ("center", "ten")
    """Views of each picture whose probabilities are averaged: the centre patch, or ten patches."""
    batch_size: int = 256
    """Patches per rank that go through the network at once."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""

    def __post_init__(self) -> None:
        super(EvaluateConfig, self).__post_init__()
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
class TrainBenchConfig(LoadingConfig):
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

    def __post_init__(self) -> None:
        super(TrainBenchConfig, self).__post_init__()
        check(self.batch_size > 0, f"--batch-size must be positive, found {self.batch_size}")
        check(self.num_steps > 0, f"--num-steps must be positive, found {self.num_steps}")
        check(self.num_threads > 0, f"--num-threads must be positive, found {self.num_threads}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessBenchConfig:
    """What is timed, and where the numbers go."""

    source: Path | None = None
    """Folder that holds pictures, at any depth; None paints noise first, into a temporary folder."""
    out: Path = Path("results/preprocess")
    """Directory for the JSON file and its tables."""
    num_sampled: int = 200
    """Pictures that each variant goes through, the same for all."""
    num_rounds: int = 5
    """Times that it does; the quickest counts, which other work on the machine disturbed least."""
    num_packed: int = 6000
    """Pictures that the whole stage packs with one worker and with two, repeated from the source as needed."""
    peer_python: Path | None = None
    """Python of an environment with plain Pillow and img2dataset, which cannot live beside Pillow-SIMD."""

    def __post_init__(self) -> None:
        check(self.num_sampled > 0, f"--num-sampled must be positive, found {self.num_sampled}")
        check(self.num_rounds > 0, f"--num-rounds must be positive, found {self.num_rounds}")
        check(
            self.num_packed >= 3 * self.num_sampled + 3,
            f"--num-packed must be more than three times --num-sampled {self.num_sampled}, found {self.num_packed}",
        )
