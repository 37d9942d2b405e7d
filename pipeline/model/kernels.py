"""The first layer's kernels as a picture, as in Fig. 3: one tower above the other."""

from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

KERNELS_PER_ROW = 16  # Fig. 3: three rows of 16 for each of the two towers
MAGNIFICATION = 6


def draw_kernels(weights: Tensor) -> Image.Image:
    """Draw kernels (K, 3, height, width), each stretched to the full range, 16 to a row."""
    grid = make_grid(
        weights.detach().float().cpu(), nrow=KERNELS_PER_ROW, normalize=True, scale_each=True, padding=1, pad_value=1.0
    )
    picture: Image.Image = to_pil_image(grid)
    size = (picture.width * MAGNIFICATION, picture.height * MAGNIFICATION)
    return picture.resize(size, Image.Resampling.NEAREST)
