"""Boxes of `resized` are uniform in area, log-uniform in aspect and place, always inside, and torchvision's."""

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from pipeline.augment.geometry import Crops, sample_crops
from pipeline.config import AugmentConfig

SIGNIFICANT = 1e-3


def sample(num_draws: int, *, image_pixels: int = 256, seed: int = 0, **changes) -> Crops:
    config = AugmentConfig(crop="resized", crop_pixels=224, mean="none", **changes)
    crops = sample_crops(num_draws, config, image_pixels=image_pixels, seed=seed, epoch=0)
    assert crops.starts.dtype == crops.shapes.dtype == np.int32
    assert crops.starts.shape == crops.shapes.shape == (num_draws, 2)
    return crops


def test_areas_are_uniform_and_aspects_log_uniform_where_every_box_fits():
    side = 2**20  # so large that whole pixels round nothing away
    shapes = sample(20_000, image_pixels=side, area_range=(0.1, 0.5), aspect_range=(0.6, 1.9)).shapes / side
    heights, widths = shapes.T
    areas, aspects = heights * widths, np.log(widths / heights)
    narrow, wide = np.log((0.6, 1.9))
    assert stats.kstest(areas, stats.uniform(0.1, 0.4).cdf).pvalue > SIGNIFICANT
    assert stats.kstest(aspects, stats.uniform(narrow, wide - narrow).cdf).pvalue > SIGNIFICANT
    assert stats.pearsonr(areas, aspects).pvalue > SIGNIFICANT


@pytest.mark.parametrize(
    ("area_range", "aspect_range"), [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.3, 1.0), (0.5, 2.0)), ((0.001, 0.01), (1, 1))]
)
def test_boxes_are_distributed_as_torchvisions(area_range, aspect_range):
    num_draws = 4000
    transform = v2.RandomResizedCrop(224, scale=area_range, ratio=aspect_range)
    picture = [torch.empty(3, 256, 256)]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn = [transform.make_params(picture) for _ in range(num_draws)]
    expected = np.array([[box[name] for name in ("top", "left", "height", "width")] for box in drawn])
    crops = sample(num_draws, area_range=area_range, aspect_range=aspect_range)
    found = np.concatenate([crops.starts, crops.shapes], axis=1)
    for ours, theirs in zip(found.T, expected.T, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > SIGNIFICANT
    for one, other in ((2, 3), (0, 2), (1, 3)):  # area, and the far edges
        combine = np.multiply if one == 2 else np.add
        assert stats.ks_2samp(combine(*found.T[[one, other]]), combine(*expected.T[[one, other]])).pvalue > SIGNIFICANT


@pytest.mark.parametrize("image_pixels", [8, 28, 256])
@pytest.mark.parametrize("aspect_range", [(3 / 4, 4 / 3), (0.05, 20.0)])
def test_boxes_lie_inside_and_reach_every_edge(image_pixels, aspect_range):
    crops = sample(20_000, image_pixels=image_pixels, area_range=(1e-6, 1.0), aspect_range=aspect_range)
    ends = crops.starts + crops.shapes
    assert crops.shapes.min() >= 1
    assert (crops.starts.min(axis=0) == 0).all()
    assert (ends.max(axis=0) == image_pixels).all()


def test_places_are_uniform_and_independent():
    crops = sample(60_000, image_pixels=20, area_range=(0.25, 0.25), aspect_range=(1.0, 1.0))
    assert (crops.shapes == 10).all()
    cells = np.bincount(crops.starts[:, 0] * 11 + crops.starts[:, 1], minlength=121)
    assert cells.shape == (121,)
    assert stats.chisquare(cells).pvalue > SIGNIFICANT
    assert stats.chisquare(np.bincount(crops.mirrors, minlength=2)).pvalue > SIGNIFICANT


@pytest.mark.parametrize("aspect_range", [(1.5, 2.0), (2.0, 3.0), (0.3, 0.4)])
def test_the_largest_box_in_the_middle_stands_for_those_that_never_fit_as_in_torchvision(aspect_range):
    area_range = (0.9999, 1.0)
    peer = v2.RandomResizedCrop(224, scale=area_range, ratio=aspect_range)
    expected = {tuple(peer.make_params([torch.empty(3, 256, 256)]).values()) for _ in range(20)}
    crops = sample(500, area_range=area_range, aspect_range=aspect_range)
    found = {tuple(row) for row in np.hstack([crops.starts, crops.shapes]).tolist()}
    assert len(expected) == 1
    assert found == expected


def test_a_box_that_fits_rarely_is_drawn_again_ten_times():
    # A box of almost the whole picture fits where its aspect is almost 1: one draw in `chance` does.
    widest = np.log(2.0)
    fits = np.log(1 / 0.81)
    config = {"area_range": (0.81, 0.81), "aspect_range": (0.5, 2.0)}
    shapes = sample(20_000, image_pixels=10_000, **config).shapes
    num_whole = int((shapes == 10_000).all(axis=1).sum())
    expected = (1 - fits / widest) ** 10
    assert stats.binomtest(num_whole, 20_000, expected).pvalue > SIGNIFICANT


def test_boxes_are_functions_of_the_seed():
    one, again, other = (sample(50, seed=seed).shapes for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()
