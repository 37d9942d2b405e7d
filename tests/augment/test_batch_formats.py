"""Half precision rounds float32 and nothing else, channels-last moves nothing, and EXIF turns nothing."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from augment_sets import (
    BOXES,
    COLORFUL,
    SIDE,
    Setting,
    build_evaluation,
    build_train,
    overwrite,
    pack_set,
    paint,
    to_jpeg,
)
from PIL import ExifTags, Image, ImageOps

from pipeline.artifacts import ShardSet
from pipeline.augment.loader import BatchFormat
from pipeline.config import AugmentConfig

WHOLE = AugmentConfig(crop="center", crop_pixels=SIDE, flip=False, mean="none", color_scale="none")
"""The pictures as they are stored."""


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def small_set(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return pack_set(tmp_path_factory.mktemp("small"), num_train=16, num_val=10, encoding=request.param)


def collect(shard_set: ShardSet, kind: str, setting: Setting) -> list[torch.Tensor]:
    """Two training batches, or those of an evaluation, whose last one is short."""
    if kind == "train":
        return [batch.images for batch in build_train(shard_set, setting).run(0, 2)]
    return [batch.images for batch in build_evaluation(shard_set, setting, kind).run()]


SETTINGS = {
    "colour": Setting(config=COLORFUL),
    "boxes": Setting(config=BOXES),
    "grey": Setting(config=replace(BOXES, gray=True, color_scale="none")),
    "shrunken": Setting(config=replace(COLORFUL, pixel_scale=2.0**14)),  # so small that float16 is subnormal
}


@pytest.mark.parametrize("kind", ["train", "center", "ten"])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_is_float32_rounded(small_set, kind, name, dtype):
    setting = SETTINGS[name]
    expected = collect(small_set, kind, setting)
    found = collect(small_set, kind, replace(setting, batch_format=BatchFormat(dtype=dtype)))
    assert len(found) == len(expected) == 2
    for batch, other in zip(found, expected, strict=True):
        assert (batch.dtype, other.dtype) == (dtype, torch.float32)
        assert torch.equal(batch, other.to(dtype))
        assert not torch.equal(batch.float(), other)


@pytest.mark.parametrize("kind", ["train", "center", "ten"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("name", ["colour", "boxes", "grey"])
def test_channels_last_changes_strides_and_no_value(small_set, kind, dtype, name):
    batch_format = BatchFormat(dtype=dtype)
    expected = collect(small_set, kind, replace(SETTINGS[name], batch_format=batch_format))
    channels_last = replace(batch_format, channels_last=True)
    found = collect(small_set, kind, replace(SETTINGS[name], batch_format=channels_last))
    for batch, other in zip(found, expected, strict=True):
        assert torch.equal(batch, other)
        assert other.is_contiguous()
        flat = batch if kind == "train" else batch.flatten(0, 1)
        assert flat.data_ptr() == batch.data_ptr()  # the network takes it as it is
        assert flat.is_contiguous(memory_format=torch.channels_last)
        assert flat.is_contiguous() == (name == "grey")


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_is_not_turned_by_its_exif(tmp_path, orientation):
    shard_set = pack_set(tmp_path, num_train=16, num_val=10)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = to_jpeg(paint(SIDE, 77), quality=50, exif=exif)
    for split in ("train", "val"):
        room = len(shard_set.open_split(split).read(3))
        assert len(content) < room
        overwrite(shard_set, split, 3, content.ljust(room, b"\0"))
    picture = Image.open(io.BytesIO(content))
    expected, turned = (np.asarray(image).transpose(2, 0, 1) for image in (picture, ImageOps.exif_transpose(picture)))
    assert (expected != turned).any()
    setting = Setting(config=WHOLE, batch_size=16)
    (training,) = build_train(shard_set, setting).run(0, 1)
    (evaluation,) = build_evaluation(shard_set, setting).run()
    for image in (training.images[training.positions.tolist().index(3)], evaluation.images[3, 0]):
        np.testing.assert_array_equal(image.numpy(), expected)
