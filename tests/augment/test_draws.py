"""Draws belong to pictures or to groups of them, at any number of ranks; their digest says when they are the same."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from augment_oracle import build_world

from pipeline.augment.color import ColorStatistics
from pipeline.augment.draws import Draws, TrainSampler
from pipeline.augment.geometry import sample_crops
from pipeline.config import AugmentConfig

NUM_IMAGES, BATCH_SIZE, SEED = 50, 12, 3
STEPS_PER_EPOCH = 4
CONFIG = AugmentConfig(crop_pixels=224, num_offsets=33, color_divisor=1.1)
STATISTICS = ColorStatistics(
    mean=np.array([120.0, 110.0, 100.0]),
    std=np.array([70.0, 68.0, 71.0]),
    axes=np.array([[60.0, 20.0, 3.0], [58.0, -2.0, -7.0], [55.0, -24.0, 4.0]]),
)


def build_sampler(config: AugmentConfig = CONFIG, *, rank: int = 0, world_size: int = 1, **changes) -> TrainSampler:
    arguments = {
        "num_images": NUM_IMAGES,
        "image_pixels": 256,
        "global_batch_size": BATCH_SIZE,
        "seed": SEED,
        "statistics": STATISTICS,
    } | changes
    return TrainSampler(config, world=build_world(rank, world_size), **arguments)


def draw_epoch(sampler: TrainSampler, epoch: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Positions and draws of an epoch, in the order in which they come."""
    steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
    draws = [sampler.draw(step) for step in steps]
    joined = {name: np.concatenate([getattr(draw, name) for draw in draws]) for name in Draws.__slots__}
    return np.concatenate([sampler.select(step) for step in steps]), joined


@pytest.mark.parametrize("crop", ["random", "center", "resized"])
def test_draws_have_the_shapes_and_types_that_the_graph_takes(crop):
    for gray, num_channels in ((False, 3), (True, 1)):
        config = replace(CONFIG, crop=crop, mean="none", gray=gray, color_scale="none")
        draws = build_sampler(config).draw(5)
        expected = {"starts": (np.int32, 2), "shapes": (np.int32, 2), "mirrors": (np.int32, None)}
        for name in Draws.__slots__:
            dtype, size = expected.get(name, (np.float32, num_channels))
            values = getattr(draws, name)
            assert values.dtype == dtype
            assert values.shape == ((BATCH_SIZE, size) if size else (BATCH_SIZE,))


@pytest.mark.parametrize(("image_pixels", "crop_pixels", "start"), [(256, 224, 16), (256, 227, 14), (28, 28, 0)])
def test_the_centre_is_in_the_middle(image_pixels, crop_pixels, start):
    config = AugmentConfig(crop="center", crop_pixels=crop_pixels)
    crops = sample_crops(100, config, image_pixels=image_pixels, seed=0, epoch=0)
    assert (crops.starts == start).all()
    assert (crops.shapes == crop_pixels).all()
    assert set(crops.mirrors.tolist()) == {0, 1}


@pytest.mark.parametrize("images_per_crop", [4, 5, 32])
def test_a_group_shares_crop_and_mirroring_and_nothing_else(images_per_crop):
    positions, draws = draw_epoch(build_sampler(replace(CONFIG, images_per_crop=images_per_crop)))
    alone_positions, alone = draw_epoch(build_sampler())
    np.testing.assert_array_equal(positions, alone_positions)
    np.testing.assert_array_equal(draws["color_shifts"], alone["color_shifts"])
    assert len(np.unique(draws["color_shifts"], axis=0)) == len(positions)
    boxes = np.concatenate([draws["starts"], draws["mirrors"][:, None]], axis=1)
    groups = [boxes[first : first + images_per_crop] for first in range(0, len(boxes), images_per_crop)]
    assert all((group == group[0]).all() for group in groups)
    assert len({tuple(group[0]) for group in groups}) == len(groups) > 1


def test_without_sharing_draws_belong_to_the_picture():
    positions, draws = draw_epoch(build_sampler(), epoch=2)
    crops = sample_crops(NUM_IMAGES, CONFIG, image_pixels=256, seed=SEED, epoch=2)
    np.testing.assert_array_equal(draws["starts"], crops.starts[positions])
    np.testing.assert_array_equal(draws["mirrors"], crops.mirrors[positions])


def test_colour_does_not_change_crops_nor_crops_colour():
    positions, draws = draw_epoch(build_sampler())
    plain_positions, plain = draw_epoch(build_sampler(replace(CONFIG, color_scale="none")))
    boxed_positions, boxed = draw_epoch(build_sampler(replace(CONFIG, crop="resized", mean="none")))
    for other in (plain_positions, boxed_positions):
        np.testing.assert_array_equal(positions, other)
    for name in ("starts", "mirrors"):
        np.testing.assert_array_equal(draws[name], plain[name])
    np.testing.assert_array_equal(draws["color_shifts"], boxed["color_shifts"])
    assert (plain["color_shifts"] == 0).all()
    assert draws["color_shifts"].std() > 1


@pytest.mark.parametrize("config", [replace(CONFIG, images_per_crop=8), replace(CONFIG, crop="resized", mean="none")])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_join_to_the_draws_of_one(config, world_size):
    alone = build_sampler(config)
    for step in range(2 * STEPS_PER_EPOCH):
        parts = [build_sampler(config, rank=rank, world_size=world_size) for rank in range(world_size)]
        np.testing.assert_array_equal(np.concatenate([part.select(step) for part in parts]), alone.select(step))
        for name in Draws.__slots__:
            joined = np.concatenate([getattr(part.draw(step), name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(alone.draw(step), name))


def test_what_is_subtracted_and_divided_by_follows_the_formula():
    config = replace(CONFIG, mean="channel", pixel_scale="std", color_off_epoch=1)
    sampler = build_sampler(config)
    for step, divisor in ((STEPS_PER_EPOCH - 1, 1.1), (STEPS_PER_EPOCH, 1.0)):
        draws = sampler.draw(step)
        np.testing.assert_allclose(draws.offsets, draws.color_shifts - STATISTICS.mean, rtol=1e-6)
        np.testing.assert_allclose(draws.divisors, np.tile(STATISTICS.std * divisor, (BATCH_SIZE, 1)), rtol=1e-6)
    assert (sampler.draw(STEPS_PER_EPOCH).color_shifts == 0).all()
    assert sampler.draw(STEPS_PER_EPOCH - 1).color_shifts.any(axis=1).all()


def test_the_digest_is_that_of_the_epoch_at_any_rank():
    expected = build_sampler().compute_digest(0)
    for rank, world_size in ((0, 1), (0, 2), (1, 2), (2, 3)):
        sampler = build_sampler(rank=rank, world_size=world_size)
        assert {sampler.compute_digest(step) for step in range(STEPS_PER_EPOCH)} == {expected}
        assert sampler.compute_digest(STEPS_PER_EPOCH) != expected


def scale_axes(factor: float | np.ndarray) -> ColorStatistics:
    return replace(STATISTICS, axes=STATISTICS.axes * factor)


CHANGES = {
    "nothing": {},
    "seed": {"seed": SEED + 1},
    "number of pictures": {"num_images": NUM_IMAGES + 1},
    "offsets": {"config": replace(CONFIG, num_offsets=32)},
    "mirroring": {"config": replace(CONFIG, flip=False)},
    "patch": {"config": replace(CONFIG, crop_pixels=223)},
    "kind of patch": {"config": replace(CONFIG, crop="center")},
    "boxes": {"config": replace(CONFIG, crop="resized", mean="none")},
    "area range": {"config": replace(CONFIG, crop="resized", mean="none", area_range=(0.5, 1.0))},
    "aspect range": {"config": replace(CONFIG, crop="resized", mean="none", aspect_range=(0.7, 1.4))},
    "spread of the colours": {"config": replace(CONFIG, color_coefficient_std=0.11)},
    "no colours": {"config": replace(CONFIG, color_scale="none")},
    "colour axes": {"statistics": scale_axes(1.01)},
}


def test_digests_differ_with_what_is_drawn():
    digests = {name: build_sampler(**changes).compute_digest(0) for name, changes in CHANGES.items()}
    digests["epoch"] = build_sampler().compute_digest(STEPS_PER_EPOCH)
    assert len(set(digests.values())) == len(digests)
    assert build_sampler().compute_digest(0) == digests["nothing"]


@pytest.mark.parametrize("epoch", range(3))
def test_the_digest_does_not_see_how_a_processor_rounds(epoch):
    noise = 1 + 1e-12 * np.random.default_rng(epoch).normal(size=(3, 3))
    digests = {
        build_sampler(num_images=20_000, statistics=scale_axes(factor)).compute_digest(epoch * 20_000 // BATCH_SIZE)
        for factor in (1.0, noise)
    }
    assert len(digests) == 1


def test_the_draws_of_past_epochs_are_forgotten():
    sampler, sizes = build_sampler(num_images=20_000), []
    tracemalloc.start()
    for epoch in range(8):
        sampler.draw(epoch * sampler.steps_per_epoch)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[0] > 20_000 * 30
    assert sizes[-1] < 1.1 * sizes[2]
