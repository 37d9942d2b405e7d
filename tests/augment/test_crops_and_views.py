"""Crops are uniform over all positions and mirrorings; the ten views lie where §4.1 says."""

import numpy as np
import pytest
from scipy import stats

from pipeline.augment.geometry import View, build_views, sample_crops
from pipeline.config import AugmentConfig


def sample(num_draws: int, *, num_offsets: int = 33, flip: bool = True, seed: int = 0, epoch: int = 0):
    return sample_crops(
        num_draws, AugmentConfig(num_offsets=num_offsets, flip=flip), image_pixels=256, seed=seed, epoch=epoch
    )


@pytest.mark.parametrize("num_offsets", [33, 32])
def test_every_position_and_mirroring_is_equally_likely_and_independent(num_offsets):
    num_cells = num_offsets**2 * 2
    crops = sample(50 * num_cells, num_offsets=num_offsets)
    assert (crops.starts.min(), crops.starts.max()) == (0, num_offsets - 1)
    cells = (crops.starts[:, 0] * num_offsets + crops.starts[:, 1]) * 2 + crops.mirrors
    counts = np.bincount(cells, minlength=num_cells)
    assert counts.shape == (num_cells,)
    assert stats.chisquare(counts).pvalue > 0.001
    for column in (crops.starts[:, 0], crops.starts[:, 1]):
        offsets = np.bincount(column, minlength=num_offsets)
        assert offsets.min() > 0
        assert stats.chisquare(offsets).pvalue > 0.001
    assert stats.chisquare(np.bincount(crops.mirrors)).pvalue > 0.001


def test_draws_have_the_types_that_the_graph_takes():
    crops = sample(10)
    assert (crops.starts.shape, crops.starts.dtype) == ((10, 2), np.int32)
    assert (crops.mirrors.shape, crops.mirrors.dtype) == ((10,), np.int32)


def test_draws_are_functions_of_seed_and_epoch():
    draws = [sample(20, seed=seed, epoch=epoch).starts.tobytes() for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(draws)) == 4
    assert sample(20, seed=1, epoch=1).starts.tobytes() == draws[-1]


def test_without_flip_nothing_is_mirrored_and_the_positions_stay():
    still, moving = sample(1000, flip=False), sample(1000)
    assert still.mirrors.max() == 0
    assert 0 < moving.mirrors.sum() < 1000
    np.testing.assert_array_equal(still.starts, moving.starts)


def test_the_centre_view_lies_in_the_middle():
    assert build_views("center", image_pixels=256, crop_pixels=224) == (View(top=16, left=16, mirror=False),)


def test_ten_views_are_corners_and_centre_and_their_mirrorings():
    views = build_views("ten", image_pixels=256, crop_pixels=224)
    corners = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    assert [(view.top, view.left, view.mirror) for view in views] == [
        *((top, left, False) for top, left in corners),
        *((top, left, True) for top, left in corners),
    ]
