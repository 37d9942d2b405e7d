"""From what the network sees back to grey levels that people can look at."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from pipeline import paper
from pipeline.artifacts import ShardSet
from pipeline.augment.color import MAX_PIXEL, build_color_statistics
from pipeline.augment.draws import compute_normalization
from pipeline.augment.preview_record import Patch
from pipeline.config import AugmentConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """What an augmentation subtracts: an image (side, side, 3) and a value of each channel (C,); float32, 0-255."""

    augment: AugmentConfig
    image: npt.NDArray[np.float32]
    channels: npt.NDArray[np.float32]

    def cut(self, patch: Patch) -> npt.NDArray[np.float32]:
        """What was subtracted from a patch: (input_pixels, input_pixels, C), or (C,) where each pixel's is the same."""
        side = self.augment.crop_pixels
        match self.augment.mean:
            case "centered":
                middle = (len(self.image) - side) // 2
                image = self.image[middle : middle + side, middle : middle + side]
            case "cropped":
                image = self.image[patch.top : patch.top + patch.height, patch.left : patch.left + patch.width]
            case _:
                return self.channels
        image = self._reduce(resize(image, self.augment.input_pixels))
        return image[:, ::-1] if patch.mirror else image

    def render(self) -> npt.NDArray[np.uint8] | None:
        """A picture of it, (side, side, 3) uint8; None where nothing is subtracted."""
        if self.augment.mean == "none":
            return None
        is_image = self.augment.mean != "channel"
        return to_picture(self._reduce(self.image) if is_image else np.broadcast_to(self.channels, self.image.shape))

    def _reduce(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return image @ np.array(paper.LUMINANCE_WEIGHTS, np.float32)[:, None] if self.augment.gray else image


def read_mean(shard_set: ShardSet, augment: AugmentConfig) -> Mean:
    """What the augmentation subtracts from the pictures of a shard set."""
    channels, _ = compute_normalization(augment, build_color_statistics(shard_set.info.color, augment))
    return Mean(augment=augment, image=shard_set.read_mean_image(), channels=channels)


def resize(image: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Linearly with antialiasing, as the graph does: (height, width, C) to (side, side, C)."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    resized = F.interpolate(planes, (side, side), mode="bilinear", antialias=True)
    return np.asarray(resized[0].numpy().transpose(1, 2, 0))


def to_picture(levels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Grey levels (height, width, 1 or 3) as RGB, rounded and clipped: (height, width, 3) uint8."""
    rounded = np.clip(np.rint(levels), 0, MAX_PIXEL).astype(np.uint8)
    return np.repeat(rounded, 3 // rounded.shape[2], axis=2)


def restore(image: torch.Tensor, patch: Patch, mean: Mean) -> npt.NDArray[np.uint8]:
    """What the network sees, (C, side, side), brought back to grey levels as `Pixels` says: (side, side, 3) uint8."""
    divided = image.float().cpu().numpy().transpose(1, 2, 0)
    return to_picture(divided * np.array(patch.divisor, np.float32) + mean.cut(patch))
