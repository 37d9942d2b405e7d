"""Training batches against the oracle: pixels, draws, order, ranks, restarts."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from augment_oracle import LOADING, build_world, cut_patch, decode

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.augment.color import build_color_statistics, sample_color_shifts
from pipeline.augment.geometry import sample_crops
from pipeline.augment.loader import Batch, TrainLoader
from pipeline.augment.order import permute_epoch
from pipeline.config import AugmentConfig
from pipeline.distributed import World
from pipeline.errors import InputError, RunError
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


def compute_expected(shard_set: ShardSet, config: AugmentConfig, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (8,) and patches (8, 3, 224, 224) of one global batch, in float64."""
    epoch, step_in_epoch = divmod(step, STEPS_PER_EPOCH)
    places = np.arange(step_in_epoch * BATCH_SIZE, (step_in_epoch + 1) * BATCH_SIZE)
    positions = permute_epoch(NUM_IMAGES, seed=SEED, epoch=epoch)[places]
    crops = sample_crops(NUM_IMAGES, config, image_pixels=256, seed=SEED, epoch=epoch)
    axes = build_color_statistics(shard_set.info.color, config).axes
    shifts = sample_color_shifts(NUM_IMAGES, axes, std=config.color_coefficient_std, seed=SEED, epoch=epoch)
    is_colored = config.color_off_epoch is None or epoch < config.color_off_epoch
    mean_image = shard_set.read_mean_image()
    patches = []
    for place, position in zip(places, positions, strict=True):
        draw = position if config.images_per_crop == 1 else place // config.images_per_crop
        top, left = crops.starts[draw]
        patch = cut_patch(
            decode(shard_set, "train", position),
            mean_image,
            config,
            top=top,
            left=left,
            mirror=bool(crops.mirrors[draw]),
            shift=shifts[position].astype(np.float64) if is_colored else 0.0,
            divisor=config.pixel_scale * (config.color_divisor if is_colored else 1.0),
        )
        patches.append(patch)
    return positions, np.stack(patches)


CONFIGS = {
    "source-2012": SOURCE,
    "paper": PAPER,
    "source without sharing": replace(SOURCE, images_per_crop=1),
    "four images share a crop": replace(SOURCE, images_per_crop=4),
    "cropped mean and scaled pixels": replace(PAPER, pixel_scale=127.5, color_divisor=1.1),
    "no colour, no flip": replace(PAPER, color_scale="none", flip=False, mean="centered"),
    "small patches everywhere": replace(PAPER, crop_pixels=64, num_offsets=193, color_coefficient_std=0.5),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_batches_are_what_the_formula_says(shard_set, name):
    config = CONFIGS[name]
    batches = collect(build_loader(shard_set, config), 4, 8)
    labels = shard_set.open_split("train").labels
    for step, batch in zip(range(4, 8), batches, strict=True):
        positions, patches = compute_expected(shard_set, config, step)
        np.testing.assert_array_equal(batch.positions, positions)
        assert batch.images.dtype == torch.float32
        assert np.abs(batch.images.numpy() - patches).max() < 1e-4
        assert batch.labels.tolist() == labels[positions].tolist()


def test_colour_is_off_from_its_epoch_on(shard_set):
    config = replace(PAPER, color_off_epoch=1, color_divisor=1.1, color_coefficient_std=0.5)
    last, first = collect(build_loader(shard_set, config), STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH + 1)
    for step, batch in ((STEPS_PER_EPOCH - 1, last), (STEPS_PER_EPOCH, first)):
        assert np.abs(batch.images.numpy() - compute_expected(shard_set, config, step)[1]).max() < 1e-4
    # The two differ: the oracle with colour is far from the batch without.
    colored = compute_expected(shard_set, replace(config, color_off_epoch=None), STEPS_PER_EPOCH)[1]
    assert np.abs(first.images.numpy() - colored).max() > 5


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


def test_a_picture_damaged_after_packing_is_named_with_shard_and_offset(shard_set, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(shard_set.path, copy)
    split = read_shard_set(copy).open_split("train")
    where = split.locate(7)
    path, offset, _ = where.split(":")
    with Path(path).open("r+b") as shard:
        shard.seek(int(offset))
        shard.write(bytes(400))
    loader = build_loader(read_shard_set(copy), SOURCE)
    with pytest.raises(RunError, match=f"{re.escape(where)} cannot be decoded .* see `alexnet preprocess verify`"):
        list(loader.run(0, loader.steps_per_epoch))
