"""What the network should see, in float64 NumPy; Pillow and tarfile read the pictures, nothing of the pipeline does."""

import functools
import io
import math
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.artifacts import ShardSet
from pipeline.config import AugmentConfig
from pipeline.distributed import World
from pipeline.options import LoadingConfig

CPU = torch.device("cpu")
LOADING = LoadingConfig(num_threads=2)
TOLERANCE = 1e-4
"""Largest error of a float32 batch, once brought back to the 0-255 scale."""
RESIZED_TOLERANCE = 255 * 2**-16
"""The same where patches are resized: DALI keeps places in float32, so those beyond pixel 128 are up to 2**-17 off,
which moves the weights of two neighbours that may differ by 255, in both directions."""

LUMINANCE = np.array([0.299, 0.587, 0.114])
IMAGENET_MEAN, IMAGENET_STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
IMAGENET_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
IMAGENET_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def build_world(rank: int = 0, world_size: int = 1, device: torch.device = CPU) -> World:
    return World(rank=rank, local_rank=0, world_size=world_size, device=device)


@functools.lru_cache(maxsize=8)
def read_pictures(split: Path) -> list[np.ndarray]:
    """Pixels of every picture of a split that no test breaks, (side, side, 3) uint8, by position."""
    pictures = []
    for shard in sorted(split.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if not member.name.endswith(".cls"):
                    content = io.BytesIO(tar.extractfile(member).read())
                    is_raw = member.name.endswith(".npy")
                    pictures.append(np.load(content) if is_raw else np.asarray(Image.open(content)))
    return pictures


def decode(shard_set: ShardSet, split: str, position: int) -> np.ndarray:
    """One picture, (side, side, 3) float64."""
    return read_pictures(shard_set.path / split)[position].astype(np.float64)


@functools.lru_cache(maxsize=8)
def measure_pixels(split: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (3,) and covariance (3, 3) of all pixels of a split, and deviation of their luminance."""
    pixels = np.concatenate([picture.reshape(-1, 3) for picture in read_pictures(split)])
    return pixels.mean(axis=0, dtype=np.float64), np.cov(pixels.T, ddof=0), float((pixels @ LUMINANCE).std())


@dataclass(frozen=True)
class Color:
    """Mean and deviation of each channel (C,), and colour axes (3, 3) by column, on the 0-255 scale."""

    mean: np.ndarray
    std: np.ndarray
    axes: np.ndarray


def compute_color(shard_set: ShardSet, config: AugmentConfig) -> Color:
    """From the pixels of the training pictures; only the signs of the eigenvectors are those of `dataset.json`."""
    if config.statistics == "imagenet":
        mean, std = IMAGENET_MEAN, IMAGENET_STD
        eigenvalues, eigenvectors = IMAGENET_EIGENVALUES * 255**2, IMAGENET_EIGENVECTORS
        gray_std = None
    else:
        mean, covariance, gray_std = measure_pixels(shard_set.path / "train")
        std = np.sqrt(np.diag(covariance))
        eigenvectors = np.array(shard_set.info.color.eigenvectors)
        eigenvalues = np.diag(eigenvectors.T @ covariance @ eigenvectors)
    lengths = {"none": 0 * eigenvalues, "std": np.sqrt(eigenvalues), "eigenvalue": eigenvalues / 255}
    if config.gray:
        mean, std = np.array([mean @ LUMINANCE]), np.array([gray_std])
    return Color(mean, std, eigenvectors * lengths[config.color_scale])


def compute_divisor(color: Color, config: AugmentConfig, *, is_colored: bool) -> np.ndarray:
    """What pixels are divided by, (C,)."""
    scale = color.std if config.pixel_scale == "std" else np.full(len(color.mean), config.pixel_scale)
    return scale * (config.color_divisor if is_colored else 1.0)


def compute_weights(length: int, side: int) -> np.ndarray:
    """(side, length): triangles as wide as the pixels that they make, or as those that they are made of.

    What they ask for beyond the edge is the pixel at the edge.
    """
    scale = length / side
    support = max(1.0, scale)
    weights = np.zeros((side, length))
    for row, center in zip(weights, (np.arange(side) + 0.5) * scale, strict=True):
        places = np.arange(math.floor(center - support), math.ceil(center + support))
        np.add.at(row, places.clip(0, length - 1), np.maximum(0.0, 1 - np.abs(places + 0.5 - center) / support))
    return weights / weights.sum(axis=1, keepdims=True)


def resize(patch: np.ndarray, side: int) -> np.ndarray:
    """(H, W, C) to (side, side, C), linear with antialiasing."""
    rows, columns = (compute_weights(length, side) for length in patch.shape[:2])
    return np.einsum("ih,hwc,jw->ijc", rows, patch, columns, optimize=True)


def cut_patch(
    pixels: np.ndarray,
    mean_image: np.ndarray,
    config: AugmentConfig,
    *,
    top: int,
    left: int,
    shape: tuple[int, int] | None = None,
    mirror: bool,
    mean: np.ndarray | None = None,
    shift: np.ndarray | float = 0.0,
    divisor: np.ndarray | float,
) -> np.ndarray:
    """(C, side, side) float64: crop, less mean image, resize, luminance, less mean, shift, divide, mirror."""
    height, width = shape or (config.crop_pixels, config.crop_pixels)
    patch = pixels[top : top + height, left : left + width]
    assert patch.shape[:2] == (height, width)
    if config.mean in ("centered", "cropped"):
        middle = (mean_image.shape[0] - config.crop_pixels) // 2
        mean_top, mean_left = (top, left) if config.mean == "cropped" else (middle, middle)
        patch = patch - mean_image.astype(np.float64)[mean_top : mean_top + height, mean_left : mean_left + width]
    if config.crop == "resized" or config.resize_pixels:
        patch = resize(patch, config.resize_pixels or config.crop_pixels)
    if config.gray:
        patch = (patch @ LUMINANCE)[..., None]
    if config.mean == "channel":
        patch = patch - mean
    patch = (patch + shift) / divisor
    return (patch[:, ::-1] if mirror else patch).transpose(2, 0, 1)


def measure_error(found: torch.Tensor, expected: np.ndarray, divisor: np.ndarray | float) -> float:
    """Largest error of a picture (C, H, W), brought back to the 0-255 scale."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float((np.abs(found.numpy() - expected) * np.reshape(divisor, (-1, 1, 1))).max())
