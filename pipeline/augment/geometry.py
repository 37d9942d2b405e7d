"""Where the patches lie: random crops and mirrorings for training, one or ten views for evaluation (§4.1)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Views = Literal["center", "ten"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Crops:
    """Random crops, one per draw: `starts` (N, 2) int32 top and left in pixels, `mirrors` (N,) int32 of 0 and 1."""

    starts: npt.NDArray[np.int32]
    mirrors: npt.NDArray[np.int32]


def sample_crops(num_draws: int, *, num_offsets: int, flip: bool, seed: int, epoch: int) -> Crops:
    """Draw crop positions uniformly from 0 to `num_offsets` - 1 in each direction, and mirrorings with probability 1/2.

    Args:
        num_draws: N; draw i belongs to picture i of the split (or to the i-th group of an epoch).
        num_offsets: positions in each direction.
        flip: False mirrors nothing.
        seed: the experiment's seed.
        epoch: the epoch that the draws are for.
    """
    generator = np.random.default_rng([seed, epoch, 1])
    starts = generator.integers(num_offsets, size=(num_draws, 2), dtype=np.int32)
    mirrors = generator.integers(2, size=num_draws, dtype=np.int32) * np.int32(flip)
    return Crops(starts=starts, mirrors=mirrors)


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
