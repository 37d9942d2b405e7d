"""Training batches: order, ranks, restarts, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from augment_oracle import LOADING, build_world

from pipeline.artifacts import ShardSet
from pipeline.augment.loader import Batch, TrainLoader
from pipeline.config import AugmentConfig
from pipeline.distributed import World
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS

SOURCE, PAPER = (EXPERIMENTS[name].config.augment for name in ("source-2012", "paper"))
SEED, NUM_IMAGES, BATCH_SIZE = 5, 48, 8
STEPS_PER_EPOCH = NUM_IMAGES // BATCH_SIZE


def build_loader(
    shard_set: ShardSet, config: AugmentConfig, *, batch_size: int = BATCH_SIZE, world: World | None = None
) -> TrainLoader:
    return TrainLoader(
        shard_set,
        config,
        global_batch_size=batch_size,
        seed=SEED,
        world=world or build_world(),
        loading=LOADING,
    )


def collect(loader: TrainLoader, first_step: int, last_step: int) -> list[Batch]:
    return list(loader.run(first_step, last_step))


def test_an_epoch_meets_each_picture_once_with_its_own_label(shard_set):
    loader = build_loader(shard_set, PAPER)
    assert loader.steps_per_epoch == STEPS_PER_EPOCH
    split = shard_set.open_split("train")
    batches = collect(loader, 0, STEPS_PER_EPOCH)
    assert sorted(np.concatenate([batch.positions for batch in batches]).tolist()) == list(range(NUM_IMAGES))
    for batch in batches:
        names = [split.key(position).split("/")[0] for position in batch.positions]
        assert names == [f"n{label:08d}" for label in batch.labels.tolist()]


def test_pictures_that_do_not_fill_a_batch_are_others_in_each_epoch(shard_set):
    loader = build_loader(shard_set, PAPER, batch_size=20)
    assert loader.steps_per_epoch == 2
    positions = [batch.positions for batch in collect(loader, 0, 6)]
    seen = [frozenset(np.concatenate(positions[first : first + 2]).tolist()) for first in (0, 2, 4)]
    assert [len(epoch) for epoch in seen] == [40, 40, 40]
    assert len(set(seen)) == 3


@pytest.mark.parametrize("config", [replace(SOURCE, images_per_crop=4), PAPER], ids=["source", "paper"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_join_to_the_batch_of_one_process(shard_set, config, world_size):
    alone = collect(build_loader(shard_set, config, batch_size=12), 2, 6)
    parts = [
        collect(build_loader(shard_set, config, batch_size=12, world=build_world(rank, world_size)), 2, 6)
        for rank in range(world_size)
    ]
    for whole, pieces in zip(alone, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(whole.positions, np.concatenate([piece.positions for piece in pieces]))
        assert torch.equal(whole.images, torch.cat([piece.images for piece in pieces]))
        assert torch.equal(whole.labels, torch.cat([piece.labels for piece in pieces]))


@pytest.mark.parametrize("config", [SOURCE, PAPER], ids=["source", "paper"])
def test_starting_at_a_later_step_gives_the_batches_of_running_up_to_it(shard_set, config):
    whole = collect(build_loader(shard_set, config), 0, 14)
    assert len(whole) == 14
    for first_step in (3, STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH, 13):
        later = collect(build_loader(shard_set, config), first_step, 14)
        assert len(later) == 14 - first_step
        for before, batch in zip(whole[first_step:], later, strict=True):
            np.testing.assert_array_equal(before.positions, batch.positions)
            assert torch.equal(before.images, batch.images)


def test_a_run_that_was_left_halfway_does_not_spill_into_the_next(shard_set):
    loader = build_loader(shard_set, PAPER)
    expected = collect(build_loader(shard_set, PAPER), 2, 6)
    halfway = loader.run(0, 10)
    next(halfway)
    next(halfway)
    for _ in range(2):
        found = collect(loader, 2, 6)
        assert len(found) == 4
        for before, batch in zip(expected, found, strict=True):
            assert torch.equal(before.images, batch.images)


def test_kept_batches_are_not_overwritten_by_later_ones(shard_set):
    kept, copies = [], []
    for batch in build_loader(shard_set, PAPER).run(0, 8):
        kept.append(batch.images)
        copies.append(batch.images.clone())
    assert all(torch.equal(batch, copy) for batch, copy in zip(kept, copies, strict=True))


def test_crops_that_leave_the_pictures_are_refused(shard_set):
    sentence = "--augment.crop-pixels 224 at 34 offsets leaves the stored 256x256 pictures: choose a smaller patch"
    with pytest.raises(InputError, match=sentence):
        build_loader(shard_set, replace(PAPER, num_offsets=34))


def test_fewer_pictures_than_one_batch_are_refused(shard_set):
    with pytest.raises(InputError, match="has 48 training pictures, fewer than one batch of --global-batch-size 64"):
        build_loader(shard_set, PAPER, batch_size=64)
