"""Small shard sets, packed in a moment, and ways to harm them."""

import hashlib
import io
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from augment_oracle import LOADING, build_world
from PIL import Image

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.augment.loader import Batch, BatchFormat, EvaluationLoader, TrainLoader
from pipeline.config import AugmentConfig
from pipeline.options import LoadingConfig, PreprocessConfig
from pipeline.preprocess.stage import preprocess

SIDE, CROP = 32, 24
COLORFUL = AugmentConfig(crop_pixels=CROP, num_offsets=9, images_per_crop=4, color_divisor=1.1)
"""Everything that the source does, on pictures of 32x32."""
BOXES = AugmentConfig(crop="resized", crop_pixels=CROP, mean="cropped", area_range=(0.3, 1.0))
"""Boxes of any size, colours and the mean that belongs to each."""


def paint(side: int, seed: int) -> Image.Image:
    """A few colours, blown up smoothly."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def pack_set(folder: Path, *, num_train: int = 48, num_val: int = 23, pixels: int = SIDE, **packing) -> ShardSet:
    """Pack pictures of two classes, in shards of ten."""
    for split, count in (("train", num_train), ("val", num_val)):
        for number in range(count):
            path = folder / "pictures" / split / "ab"[number % 2] / f"{split}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            paint(pixels, number + 1000 * (split == "val")).save(path)
    defaults = {"pixels": pixels, "images_per_shard": 10, "workers": 1, "allow_partial": True}
    preprocess(PreprocessConfig(source=folder / "pictures", out=folder / "set", **(defaults | packing)))
    return read_shard_set(folder / "set")


def copy_set(shard_set: ShardSet, folder: Path) -> ShardSet:
    """A copy that a test may harm."""
    return read_shard_set(Path(shutil.copytree(shard_set.path, folder)))


def overwrite(shard_set: ShardSet, split: str, position: int, content: bytes, *, skip: int = 0) -> str:
    """Write over a stored picture from its byte `skip` on; returns where it lies."""
    where = shard_set.open_split(split).locate(position)
    path, offset, _ = where.split(":")
    with Path(path).open("r+b") as shard:
        shard.seek(int(offset) + skip)
        shard.write(content)
    return where


def harm(shard_set: ShardSet, split: str, positions: Iterable[int]) -> list[str]:
    """Make pictures undecodable; returns where they lie."""
    return [overwrite(shard_set, split, int(position), bytes(60)) for position in positions]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Who loads what, and how; `rank` of `world_size`."""

    config: AugmentConfig = COLORFUL
    batch_size: int = 8
    seed: int = 5
    rank: int = 0
    world_size: int = 1
    loading: LoadingConfig = LOADING
    batch_format: BatchFormat = field(default_factory=BatchFormat)


def build_train(shard_set: ShardSet, setting: Setting = Setting()) -> TrainLoader:
    return TrainLoader(
        shard_set,
        setting.config,
        global_batch_size=setting.batch_size,
        seed=setting.seed,
        world=build_world(setting.rank, setting.world_size),
        loading=setting.loading,
        batch_format=setting.batch_format,
    )


def build_evaluation(shard_set: ShardSet, setting: Setting = Setting(), views: str = "center") -> EvaluationLoader:
    """Batches of `setting.batch_size` pictures, whatever the views."""
    return EvaluationLoader(
        shard_set,
        setting.config,
        "val",
        views,
        batch_size=setting.batch_size * (10 if views == "ten" else 1),
        world=build_world(setting.rank, setting.world_size),
        loading=setting.loading,
        batch_format=setting.batch_format,
    )


def hash_pictures(batches: Iterable[Batch]) -> dict[int, str]:
    """SHA-256 of the pixels of each picture, by its position; refuses a picture that comes twice."""
    hashes = {}
    for batch in batches:
        for position, image, label in zip(batch.positions.tolist(), batch.images, batch.labels.tolist(), strict=True):
            assert position not in hashes
            hashes[position] = hashlib.sha256(image.numpy().tobytes() + bytes([label])).hexdigest()
    return hashes


def to_jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()
