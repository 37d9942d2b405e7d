"""The picture of the first layer's kernels."""

import numpy as np
import pytest
import torch

from pipeline.model.kernels import draw_kernels

CELL = 12  # 11 pixels and a line
GAP = 3
MAGNIFICATION = 6


@pytest.mark.parametrize(
    ("kernels", "towers", "columns", "rows"), [(96, 2, 16, 6), (48, 1, 16, 3), (12, 2, 6, 2), (20, 1, 10, 2)]
)
def test_kernels_stand_in_full_rows_tower_below_tower(kernels, towers, columns, rows):
    picture = draw_kernels(torch.zeros(kernels, 3, 11, 11), towers=towers)
    lines_and_gaps = towers + (towers - 1) * GAP
    assert picture.size == ((columns * CELL + 1) * MAGNIFICATION, (rows * CELL + lines_and_gaps) * MAGNIFICATION)
    assert picture.mode == "RGB"


def test_each_kernel_stands_in_its_place_stretched_to_the_full_range():
    weights = torch.from_numpy(np.random.default_rng(0).normal(0, 0.01, (96, 3, 11, 11)))
    first = MAGNIFICATION // 2
    pixels = np.asarray(draw_kernels(weights, towers=2))[first::MAGNIFICATION, first::MAGNIFICATION]
    tower_height = 3 * CELL + 1
    for number, kernel in enumerate(weights.numpy()):
        tower, place = divmod(number, 48)
        top = tower * (tower_height + GAP) + (place // 16) * CELL + 1
        left = (place % 16) * CELL + 1
        found = pixels[top : top + 11, left : left + 11]
        stretched = (kernel - kernel.min()) / (kernel.max() - kernel.min())
        np.testing.assert_allclose(found, stretched.transpose(1, 2, 0) * 255, atol=1)
        assert (found.min(), found.max()) == (0, 255)
    assert (pixels[tower_height - 1 : tower_height + GAP + 1] == 255).all()
    assert (pixels[:, 0] == 255).all()
