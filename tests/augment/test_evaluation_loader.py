"""Evaluation batches against the oracle: views, ranks, short batches, repetition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from augment_oracle import LOADING, build_world, cut_patch, decode

from pipeline.artifacts import ShardSet
from pipeline.augment.loader import Batch, EvaluationLoader
from pipeline.config import AugmentConfig
from pipeline.distributed import World
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS

PAPER = EXPERIMENTS["paper"].config.augment
NUM_VAL = 20
VIEWS = {
    "center": [(16, 16, False)],
    "ten": [
        (top, left, mirror) for mirror in (False, True) for top, left in ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16))
    ],
}


def build_loader(
    shard_set: ShardSet,
    config: AugmentConfig,
    views: str,
    *,
    split: str = "val",
    num_images: int = 6,
    world: World | None = None,
) -> EvaluationLoader:
    return EvaluationLoader(
        shard_set,
        config,
        split,
        views,
        batch_size=num_images * len(VIEWS[views]),
        world=world or build_world(),
        loading=LOADING,
    )


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    for batch, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(batch.positions, other.positions)
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.labels, other.labels)


@pytest.mark.parametrize("mean", ["centered", "cropped"])
@pytest.mark.parametrize("views", ["center", "ten"])
def test_views_are_what_the_formula_says_and_the_last_batch_is_short(shard_set, views, mean):
    # Colour belongs to training: neither its shift nor its divisor may show here.
    config = replace(PAPER, mean=mean, pixel_scale=2.0, color_divisor=1.1)
    loader = build_loader(shard_set, config, views)
    batches = list(loader.run())
    assert [len(batch.images) for batch in batches] == [6, 6, 6, 2]
    assert len(loader) == 4
    assert np.concatenate([batch.positions for batch in batches]).tolist() == list(range(NUM_VAL))
    mean_image, labels = shard_set.read_mean_image(), shard_set.open_split("val").labels
    for batch in batches:
        assert batch.images.shape == (len(batch.positions), len(VIEWS[views]), 3, 224, 224)
        assert batch.images.dtype == torch.float32
        assert batch.labels.tolist() == labels[batch.positions].tolist()
        for images, position in zip(batch.images.numpy(), batch.positions, strict=True):
            pixels = decode(shard_set, "val", position)
            for image, (top, left, mirror) in zip(images, VIEWS[views], strict=True):
                expected = cut_patch(pixels, mean_image, config, top=top, left=left, mirror=mirror, divisor=2.0)
                assert np.abs(image - expected).max() < 1e-4


def test_a_second_run_gives_the_same_batches(shard_set):
    loader = build_loader(shard_set, PAPER, "center")
    first = list(loader.run())
    for _ in range(2):
        assert_same(list(loader.run()), first)


def test_a_run_that_was_left_halfway_does_not_spill_into_the_next(shard_set):
    loader = build_loader(shard_set, PAPER, "center")
    expected = list(build_loader(shard_set, PAPER, "center").run())
    next(loader.run())
    assert_same(list(loader.run()), expected)


@pytest.mark.parametrize("views", ["center", "ten"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_meet_each_picture_once_with_the_pixels_of_one_process(shard_set, views, world_size):
    alone = list(build_loader(shard_set, PAPER, views).run())
    shared = [
        batch
        for rank in range(world_size)
        for batch in build_loader(shard_set, PAPER, views, world=build_world(rank, world_size)).run()
    ]
    positions = np.concatenate([batch.positions for batch in shared])
    order = torch.from_numpy(np.argsort(positions))
    assert positions[order].tolist() == list(range(NUM_VAL))
    assert torch.equal(torch.cat([batch.images for batch in shared])[order], torch.cat([b.images for b in alone]))
    assert torch.equal(torch.cat([batch.labels for batch in shared])[order], torch.cat([b.labels for b in alone]))


def test_a_rank_without_a_picture_has_no_batch(shard_set):
    loader = build_loader(shard_set, PAPER, "center", world=build_world(rank=20, world_size=21))
    assert len(loader) == 0
    assert list(loader.run()) == []


def test_the_batch_size_counts_views_and_leaves_at_least_one_picture(shard_set):
    for batch_size, num_images in ((35, 3), (4, 1)):
        loader = EvaluationLoader(
            shard_set,
            PAPER,
            "val",
            "ten",
            batch_size=batch_size,
            world=build_world(),
            loading=LOADING,
        )
        assert len(loader) == -(-NUM_VAL // num_images)
        assert next(loader.run()).images.shape[:2] == (num_images, 10)


def test_crops_that_leave_the_pictures_are_refused(shard_set):
    with pytest.raises(InputError, match=r"crop-pixels 250 at 32 offsets leaves the stored 256x256"):
        build_loader(shard_set, replace(PAPER, crop_pixels=250), "center")


def test_a_split_that_the_set_lacks_is_refused(shard_set):
    with pytest.raises(InputError, match="has no split 'test', only train, val"):
        build_loader(shard_set, PAPER, "center", split="test")
