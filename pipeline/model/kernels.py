"""The first layer's kernels as a picture, as in Fig. 3: one tower above the other."""

import torch
from PIL import Image
from torch import Tensor

MAX_PER_ROW = 16  # Fig. 3: three rows of 16 for each of the two towers
MAGNIFICATION = 6
TOWER_GAP_PIXELS = 3


def draw_kernels(weights: Tensor, *, towers: int) -> Image.Image:
    """Draw kernels, each stretched to the full range, tower below tower in full rows.

    Args:
        weights: (K, 3, height, width), the towers' kernels one after the other.
        towers: number of equal parts.
    """
    from torchvision.transforms.functional import to_pil_image  # here, for the import takes seconds
    from torchvision.utils import make_grid

    per_tower = len(weights) // towers
    per_row = max(count for count in range(1, MAX_PER_ROW + 1) if per_tower % count == 0)
    grids = [
        make_grid(part, nrow=per_row, normalize=True, scale_each=True, padding=1, pad_value=1.0)
        for part in torch.split(weights.detach().float().cpu(), per_tower)
    ]
    gap = torch.ones(grids[0].shape[0], TOWER_GAP_PIXELS, grids[0].shape[2])
    rows = [part for grid in grids for part in (grid, gap)][:-1]
    picture: Image.Image = to_pil_image(torch.cat(rows, dim=1))
    size = (picture.width * MAGNIFICATION, picture.height * MAGNIFICATION)
    return picture.resize(size, Image.Resampling.NEAREST)
