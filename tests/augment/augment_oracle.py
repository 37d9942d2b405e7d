"""The patch that the network should see, in float64 NumPy and Pillow, and the ranks that see it."""

import io

import numpy as np
import torch
from PIL import Image

from pipeline.artifacts import ShardSet
from pipeline.config import AugmentConfig
from pipeline.distributed import World
from pipeline.options import LoadingConfig

CPU = torch.device("cpu")
LOADING = LoadingConfig(num_threads=2)


def build_world(rank: int = 0, world_size: int = 1, device: torch.device = CPU) -> World:
    return World(rank=rank, local_rank=0, world_size=world_size, device=device)


def decode(shard_set: ShardSet, split: str, position: int) -> np.ndarray:
    content = shard_set.open_split(split).read(position).tobytes()
    return np.asarray(Image.open(io.BytesIO(content)), np.float64)


def cut_patch(
    pixels: np.ndarray,
    mean_image: np.ndarray,
    config: AugmentConfig,
    *,
    top: int,
    left: int,
    mirror: bool,
    shift: np.ndarray | float = 0.0,
    divisor: float,
) -> np.ndarray:
    """(3, crop, crop) float64: crop, subtract the mean, shift, divide, mirror, channels first."""
    side = config.crop_pixels
    middle = (256 - side) // 2
    mean_top, mean_left = (top, left) if config.mean == "cropped" else (middle, middle)
    mean = mean_image.astype(np.float64)[mean_top : mean_top + side, mean_left : mean_left + side]
    patch = (pixels[top : top + side, left : left + side] - mean + shift) / divisor
    return (patch[:, ::-1] if mirror else patch).transpose(2, 0, 1)
