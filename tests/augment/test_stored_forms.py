"""What the network sees does not depend on the lossless form in which the pictures are stored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from augment_oracle import LOADING, build_world

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.augment.loader import EvaluationLoader, TrainLoader
from pipeline.experiments import EXPERIMENTS
from pipeline.options import PreprocessConfig
from pipeline.preprocess.stage import preprocess

AUGMENT = EXPERIMENTS["source-2012"].config.augment
BATCH_SIZE = 8


@pytest.fixture(scope="module")
def lossless_sets(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardSet, ShardSet]:
    """The same pictures as raw pixels and as PNG."""
    folder = tmp_path_factory.mktemp("lossless")
    for encoding in ("raw", "png"):
        preprocess(PreprocessConfig(source=pictures, out=folder / encoding, encoding=encoding, images_per_shard=20))
    return read_shard_set(folder / "raw"), read_shard_set(folder / "png")


def collect_training(shard_set: ShardSet) -> list[torch.Tensor]:
    loader = TrainLoader(
        shard_set,
        AUGMENT,
        global_batch_size=BATCH_SIZE,
        seed=5,
        world=build_world(),
        loading=LOADING,
    )
    return [batch.images.clone() for batch in loader.run(0, 3)]


def collect_views(shard_set: ShardSet) -> list[torch.Tensor]:
    loader = EvaluationLoader(
        shard_set,
        AUGMENT,
        split="val",
        views="ten",
        batch_size=BATCH_SIZE,
        world=build_world(),
        loading=LOADING,
    )
    return [batch.images.clone() for batch in loader.run()]


@pytest.mark.parametrize("collect", [collect_training, collect_views])
def test_raw_and_png_sets_give_the_same_batches(lossless_sets: tuple[ShardSet, ShardSet], collect):
    raw, png = (collect(shard_set) for shard_set in lossless_sets)
    assert len(raw) == len(png) > 1
    for one, other in zip(raw, png, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert max(float(batch.std()) for batch in raw) > 10


def test_raw_pictures_are_read_as_pixels(lossless_sets: tuple[ShardSet, ShardSet]):
    pixels = lossless_sets[0].open_split("train").read(3)
    assert (pixels.shape, pixels.dtype) == ((256, 256, 3), np.uint8)
