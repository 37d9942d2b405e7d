"""The training set's colours: mean and deviation of each channel, and shifts along the principal components (§4.1)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import paper
from pipeline.artifacts import ColorComponents
from pipeline.config import AugmentConfig

MAX_PIXEL = 255.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ColorStatistics:
    """What an augmentation knows of its training set's colours, on the 0-255 scale.

    `mean` (C,) and `std` (C,) float64 of each channel; `axes` (3, 3) float64, by column, the colour shift that a
    coefficient of 1 on each component gives.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    axes: npt.NDArray[np.float64]


def build_color_statistics(measured: ColorComponents, config: AugmentConfig) -> ColorStatistics:
    """Take the shard set's own statistics or ImageNet's published ones, for colour or for luminance.

    Args:
        measured: of the shard set's training pictures.
        config: says which, and how long the axes are.
    """
    mean, covariance = np.array(measured.mean), np.array(measured.covariance)
    std, eigenvalues, eigenvectors = np.sqrt(np.diag(covariance)), measured.eigenvalues, measured.eigenvectors
    if config.statistics == "imagenet":
        mean, std = np.array(paper.IMAGENET_MEAN) * MAX_PIXEL, np.array(paper.IMAGENET_STD) * MAX_PIXEL
        eigenvalues = tuple(value * MAX_PIXEL**2 for value in paper.IMAGENET_EIGENVALUES)
        eigenvectors = paper.IMAGENET_EIGENVECTORS
    if config.gray:
        weights = np.array(paper.LUMINANCE_WEIGHTS)
        mean, std = weights @ mean[:, None], np.sqrt(weights @ covariance @ weights)[None]
    axes = build_color_axes(np.array(eigenvalues), np.array(eigenvectors), config)
    return ColorStatistics(mean=mean, std=std, axes=axes)


def build_color_axes(
    eigenvalues: npt.NDArray[np.float64], eigenvectors: npt.NDArray[np.float64], config: AugmentConfig
) -> npt.NDArray[np.float64]:
    """Colour shift that a coefficient of 1 on each component gives.

    The text multiplies by eigenvalues, which only works for pixels on [0, 1]; the source by standard deviations.

    Args:
        eigenvalues: (3,) of the covariance of RGB, on the 0-255 scale.
        eigenvectors: (3, 3) by column.
        config: `color_scale` is the length of each axis; `eigenvalue` takes that of [0, 1] pixels and brings the
            shift back to 0-255.

    Returns:
        (3, 3) float64, one axis per column, on the 0-255 scale.
    """
    lengths = {
        "none": np.zeros(3),
        "std": np.sqrt(eigenvalues),
        "eigenvalue": eigenvalues / MAX_PIXEL**2 * MAX_PIXEL,
    }
    axes: npt.NDArray[np.float64] = eigenvectors * lengths[config.color_scale]
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
