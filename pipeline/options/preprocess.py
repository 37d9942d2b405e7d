"""What the preprocess stage and the commands beside it read, write and may use."""

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from pipeline.errors import check
from pipeline.options.loading import Split

Layout = Literal["ilsvrc2012", "ilsvrc2010", "folders", "cifar10", "fashion-mnist"]
"""What a source is: official archives, class folders (or a tar of them), or torchvision's files."""
Resize = Literal["crop", "warp"]
Encoding = Literal["jpeg", "jpeg-420", "raw", "png"]

MAX_JPEG_QUALITY = 100
MIN_PIXELS, MAX_PIXELS = 8, 4096


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
