"""Where the patches lie: random crops and mirrorings for training, one or ten views for evaluation (§4.1)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.config import AugmentConfig

Views = Literal["center", "ten"]
NUM_TRIES = 10  # torchvision's


@dataclass(frozen=True, kw_only=True, slots=True)
class Crops:
    """Patches of N pictures, in pixels.

    `starts` (N, 2) int32 top and left; `shapes` (N, 2) int32 height and width; `mirrors` (N,) int32 of 0 and 1.
    """

    starts: npt.NDArray[np.int32]
    shapes: npt.NDArray[np.int32]
    mirrors: npt.NDArray[np.int32]


def sample_crops(num_draws: int, config: AugmentConfig, *, image_pixels: int, seed: int, epoch: int) -> Crops:
    """Draw where patches lie, as `config.crop` says, and mirrorings with probability 1/2.

    Args:
        num_draws: N; draw i belongs to picture i of the split (or to the i-th group of an epoch).
        config: kind and size of the patches, and whether any is mirrored.
        image_pixels: side of the stored pictures.
        seed: the experiment's seed.
        epoch: the epoch that the draws are for.
    """
    generator = np.random.default_rng([seed, epoch, 1])
    shapes = np.full((num_draws, 2), config.crop_pixels, np.int32)
    match config.crop:
        case "random":
            starts = generator.integers(config.num_offsets, size=(num_draws, 2), dtype=np.int32)
        case "center":
            starts = (image_pixels - shapes) // 2
        case "resized":
            starts, shapes = sample_boxes(num_draws, config, image_pixels=image_pixels, generator=generator)
    mirrors = generator.integers(2, size=num_draws, dtype=np.int32) * np.int32(config.flip)
    return Crops(starts=starts, shapes=shapes, mirrors=mirrors)


def sample_boxes(
    num_draws: int, config: AugmentConfig, *, image_pixels: int, generator: np.random.Generator
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Draw boxes of random area and aspect at random places, as torchvision's `RandomResizedCrop` does.

    A box that does not fit is drawn again; one that did not fit ten times is the largest in the middle whose aspect is
    allowed, mostly the whole picture.

    Returns:
        Starts (N, 2) int32 top and left, and shapes (N, 2) int32 height and width, in pixels.
    """
    narrowest, widest = config.aspect_range
    largest = np.rint(image_pixels * np.minimum(1, [1 / narrowest, widest]))  # height and width
    shapes = np.tile(largest.astype(np.int32), (num_draws, 1))
    missing = np.arange(num_draws)
    for _ in range(NUM_TRIES):
        areas = generator.uniform(*config.area_range, len(missing)) * image_pixels**2
        aspects = np.exp(generator.uniform(np.log(narrowest), np.log(widest), len(missing)))
        drawn = np.rint(np.sqrt(np.stack([areas / aspects, areas * aspects], axis=1))).astype(np.int32)
        fits = (drawn >= 1).all(axis=1) & (drawn <= image_pixels).all(axis=1)
        shapes[missing[fits]] = drawn[fits]
        missing = missing[~fits]
    starts = generator.integers(image_pixels - shapes + 1, dtype=np.int32)
    starts[missing] = (image_pixels - shapes[missing]) // 2
    return starts, shapes


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A fixed patch: top and left in pixels, mirrored or not."""

    top: int
    left: int
    mirror: bool


def build_views(views: Views, *, image_pixels: int, crop_pixels: int) -> tuple[View, ...]:
    """The centre patch, or the four corners and the centre, then the same five mirrored (§4.1)."""
    end = image_pixels - crop_pixels
    middle = end // 2
    if views == "center":
        return (View(top=middle, left=middle, mirror=False),)
    corners = ((0, 0), (0, end), (end, 0), (end, end), (middle, middle))
    return tuple(View(top=top, left=left, mirror=mirror) for mirror in (False, True) for top, left in corners)
