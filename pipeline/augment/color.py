"""How the colours shift: along the principal components of the training set's RGB values (§4.1)."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.artifacts import ColorComponents

MAX_PIXEL = 255.0


def build_color_axes(
    components: ColorComponents, scale: Literal["none", "std", "eigenvalue"]
) -> npt.NDArray[np.float64]:
    """Colour shift that a coefficient of 1 on each component gives.

    The text multiplies by eigenvalues, which only works for pixels on [0, 1]; the source by standard deviations.

    Args:
        components: of the training set, on the 0-255 scale.
        scale: length of each axis; `eigenvalue` takes that of [0, 1] pixels and brings the shift back to 0-255.

    Returns:
        (3, 3) float64, one axis per column, on the 0-255 scale.
    """
    eigenvalues = np.array(components.eigenvalues)
    lengths = {
        "none": np.zeros(3),
        "std": np.array(components.standard_deviations),
        "eigenvalue": eigenvalues / MAX_PIXEL**2 * MAX_PIXEL,
    }
    axes: npt.NDArray[np.float64] = np.array(components.eigenvectors) * lengths[scale]
    return axes


def sample_color_shifts(
    num_images: int, axes: npt.NDArray[np.float64], *, std: float, seed: int, epoch: int
) -> npt.NDArray[np.float32]:
    """Draw one RGB offset per picture and epoch (§4.1).

    Args:
        num_images: N; draw i belongs to picture i of the split.
        axes: (3, 3) from `build_color_axes`.
        std: spread of the coefficients, 0.1 in the paper.
        seed: the experiment's seed.
        epoch: the epoch that the draws are for.

    Returns:
        (N, 3) float32 offsets on the 0-255 scale.
    """
    coefficients = np.random.default_rng([seed, epoch, 2]).normal(0.0, std, size=(num_images, 3))
    return (coefficients @ axes.T).astype(np.float32)
