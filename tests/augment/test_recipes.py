"""Every named augmentation, and what can be combined, against the oracle: training and evaluation, JPEG and raw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from augment_oracle import (
    RESIZED_TOLERANCE,
    TOLERANCE,
    compute_color,
    compute_divisor,
    cut_patch,
    decode,
    measure_error,
)
from augment_sets import Setting, build_evaluation, build_train, pack_set

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.augment.color import sample_color_shifts
from pipeline.augment.geometry import sample_crops
from pipeline.augment.order import permute_epoch
from pipeline.config import AugmentConfig
from pipeline.experiments.augmentations import AUGMENTATIONS
from pipeline.options import PreprocessConfig
from pipeline.preprocess.stage import preprocess

SOURCE, PAPER, MODERN = (AUGMENTATIONS[name] for name in ("source", "paper", "modern"))
GRAY = AugmentConfig(gray=True, color_scale="none")
RECIPES = AUGMENTATIONS | {
    "source without sharing": replace(SOURCE, images_per_crop=1),
    "four images share a crop": replace(SOURCE, images_per_crop=4),
    "cropped mean and scaled pixels": replace(PAPER, pixel_scale=127.5, color_divisor=1.1),
    "no colour, no flip": replace(PAPER, color_scale="none", flip=False, mean="centered"),
    "small patches everywhere": replace(PAPER, crop_pixels=64, num_offsets=193, color_coefficient_std=0.5),
    "patches made smaller": replace(PAPER, resize_pixels=96),
    "patches made larger": replace(SOURCE, crop_pixels=60, resize_pixels=100),
    "boxes less their part of the mean image": replace(MODERN, mean="cropped", pixel_scale=1.0),
    "boxes of any shape with colour, no mean": replace(
        MODERN, mean="none", color_scale="std", area_range=(0.01, 1.0), aspect_range=(0.2, 5.0), statistics="measured"
    ),
    "grey boxes": replace(MODERN, gray=True, statistics="measured"),
    "boxes of another size": replace(MODERN, resize_pixels=64),
    "grey": GRAY,
    "grey, normalised": replace(GRAY, mean="channel", pixel_scale="std"),
    "grey, ImageNet's mean": replace(GRAY, mean="channel", statistics="imagenet", pixel_scale=255.0),
    "grey, cropped mean, made smaller": replace(GRAY, mean="cropped", resize_pixels=28),
    "measured mean and deviation, with colour": replace(SOURCE, mean="channel", pixel_scale="std"),
    "ImageNet's colours by deviation": replace(SOURCE, statistics="imagenet", color_coefficient_std=0.5),
    "ImageNet's colours by eigenvalue": replace(PAPER, statistics="imagenet", mean="channel"),
}
SMALL_RECIPES = {
    "28 to 224": (28, AugmentConfig(crop="center", crop_pixels=28, resize_pixels=224)),
    "28 to 224, grey": (28, replace(GRAY, crop_pixels=28, num_offsets=1, resize_pixels=224)),
    "32 to 32": (32, AugmentConfig(crop_pixels=32, num_offsets=1, resize_pixels=32)),
    "24 in 32": (32, AugmentConfig(crop_pixels=24, num_offsets=9, mean="cropped")),
    "boxes of 28": (28, replace(MODERN, crop_pixels=28, statistics="measured")),
}
NUM_IMAGES = 48
SETTING = Setting(batch_size=8)
STEPS_PER_EPOCH = NUM_IMAGES // SETTING.batch_size


@pytest.fixture(scope="module")
def raw_set(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    out = tmp_path_factory.mktemp("raw") / "set"
    preprocess(PreprocessConfig(source=pictures, out=out, encoding="raw", images_per_shard=20, workers=1))
    return read_shard_set(out)


@pytest.fixture(params=["jpeg", "raw"])
def any_set(request: pytest.FixtureRequest) -> ShardSet:
    return request.getfixturevalue("shard_set" if request.param == "jpeg" else "raw_set")


@pytest.fixture(scope="module")
def small_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], ShardSet]:
    folder = tmp_path_factory.mktemp("small")
    return {
        (pixels, encoding): pack_set(folder / f"{encoding}{pixels}", pixels=pixels, encoding=encoding)
        for pixels in (28, 32)
        for encoding in ("jpeg", "jpeg-420", "raw")
    }


def get_tolerance(config: AugmentConfig) -> float:
    return RESIZED_TOLERANCE if config.crop == "resized" or config.resize_pixels else TOLERANCE


def check_training(shard_set: ShardSet, config: AugmentConfig, step: int, *, expected: AugmentConfig | None = None):
    """The batch of a step against what `expected` (else the same configuration) says; returns the largest error."""
    (batch,) = build_train(shard_set, replace(SETTING, config=config)).run(step, step + 1)
    config = expected or config
    epoch, step_in_epoch = divmod(step, STEPS_PER_EPOCH)
    places = np.arange(step_in_epoch * SETTING.batch_size, (step_in_epoch + 1) * SETTING.batch_size)
    positions = permute_epoch(NUM_IMAGES, seed=SETTING.seed, epoch=epoch)[places]
    np.testing.assert_array_equal(batch.positions, positions)
    assert batch.labels.tolist() == shard_set.open_split("train").labels[positions].tolist()
    assert batch.images.dtype == torch.float32
    crops = sample_crops(NUM_IMAGES, config, image_pixels=shard_set.info.packing.pixels, seed=SETTING.seed, epoch=epoch)
    color = compute_color(shard_set, config)
    shifts = sample_color_shifts(
        NUM_IMAGES, color.axes, std=config.color_coefficient_std, seed=SETTING.seed, epoch=epoch
    )
    is_colored = config.color_scale != "none" and (config.color_off_epoch is None or epoch < config.color_off_epoch)
    divisor = compute_divisor(color, config, is_colored=is_colored)
    mean_image, errors = np.load(shard_set.path / "statistics" / "mean_image.npy"), []
    for image, place, position in zip(batch.images, places, positions, strict=True):
        draw = position if config.images_per_crop == 1 else place // config.images_per_crop
        top, left = crops.starts[draw]
        patch = cut_patch(
            decode(shard_set, "train", position),
            mean_image,
            config,
            top=top,
            left=left,
            shape=tuple(crops.shapes[draw]),
            mirror=bool(crops.mirrors[draw]),
            mean=color.mean,
            shift=shifts[position].astype(np.float64) if is_colored else 0.0,
            divisor=divisor,
        )
        errors.append(measure_error(image, patch, divisor))
    return max(errors)


def check_evaluation(shard_set: ShardSet, config: AugmentConfig, views: str, num_images: int) -> float:
    """The first batch of fixed views against the formula; returns the largest error."""
    setting = replace(SETTING, config=config, batch_size=num_images)
    batch = next(build_evaluation(shard_set, setting, views).run())
    assert batch.positions.tolist() == list(range(num_images))
    color, side = compute_color(shard_set, config), shard_set.info.packing.pixels
    divisor = compute_divisor(color, config, is_colored=False)
    end = side - config.crop_pixels
    places = [(0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2)][-1 if views == "center" else 0 :]
    expected_views = [(top, left, mirror) for mirror in (False, True)[: len(places)] for top, left in places]
    mean_image, errors = np.load(shard_set.path / "statistics" / "mean_image.npy"), []
    for images, position in zip(batch.images, batch.positions, strict=True):
        pixels = decode(shard_set, "val", position)
        for image, (top, left, mirror) in zip(images, expected_views, strict=True):
            patch = cut_patch(
                pixels, mean_image, config, top=top, left=left, mirror=mirror, mean=color.mean, divisor=divisor
            )
            errors.append(measure_error(image, patch, divisor))
    return max(errors)


@pytest.mark.parametrize("name", RECIPES)
def test_training_batches_are_what_the_formula_says(any_set, name):
    assert check_training(any_set, RECIPES[name], STEPS_PER_EPOCH + 1) < get_tolerance(RECIPES[name])


@pytest.mark.parametrize("name", RECIPES)
def test_the_centre_view_is_what_the_formula_says(any_set, name):
    assert check_evaluation(any_set, RECIPES[name], "center", 2) < get_tolerance(RECIPES[name])


@pytest.mark.parametrize(
    "name", ["caffe", "boxes less their part of the mean image", "grey, cropped mean, made smaller"]
)
def test_ten_views_are_what_the_formula_says(any_set, name):
    assert check_evaluation(any_set, RECIPES[name], "ten", 1) < get_tolerance(RECIPES[name])


@pytest.mark.parametrize("encoding", ["jpeg", "jpeg-420", "raw"])
@pytest.mark.parametrize("name", SMALL_RECIPES)
def test_small_pictures_are_what_the_formula_says(small_sets, name, encoding):
    pixels, config = SMALL_RECIPES[name]
    assert check_training(small_sets[pixels, encoding], config, 3) < get_tolerance(config)
    for views in ("center", "ten"):
        assert check_evaluation(small_sets[pixels, encoding], config, views, 3) < get_tolerance(config)


def test_the_oracle_tells_recipes_apart(shard_set):
    for name, other in (("caffe", "paper"), ("none", "source"), ("modern", "grey boxes")):
        config = replace(RECIPES[other], gray=False)
        with_size = replace(config, crop_pixels=RECIPES[name].crop_pixels, num_offsets=RECIPES[name].num_offsets)
        assert check_training(shard_set, RECIPES[name], 0, expected=with_size) > 1


def test_colour_is_off_from_its_epoch_on(shard_set):
    config = replace(PAPER, color_off_epoch=1, color_divisor=1.1, color_coefficient_std=0.5)
    for step in (STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH):
        assert check_training(shard_set, config, step) < TOLERANCE
    colored = replace(config, color_off_epoch=None)
    assert check_training(shard_set, config, STEPS_PER_EPOCH - 1, expected=colored) < TOLERANCE
    assert check_training(shard_set, config, STEPS_PER_EPOCH, expected=colored) > 5
