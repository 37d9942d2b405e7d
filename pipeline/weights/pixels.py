"""A network with its preprocessing in front of it, so that it takes pixels as they are stored."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline import paper
from pipeline.artifacts import ShardSet
from pipeline.augment.color import build_color_statistics
from pipeline.augment.draws import compute_normalization
from pipeline.augment.geometry import build_views
from pipeline.config import AugmentConfig


class FromPixels(nn.Module):
    """What evaluation does to the pixels of a centre crop, then the network."""

    mean: Tensor
    divisor: Tensor
    luminance: Tensor | None

    def __init__(self, network: nn.Module, *, mean: Tensor, divisor: Tensor, luminance: Tensor | None) -> None:
        """Keep the constants beside the network.

        Args:
            network: in evaluation mode.
            mean: (C, H, W), or (C, 1, 1) where it is the same everywhere; 0-255.
            divisor: (C, 1, 1).
            luminance: (3, 1, 1) share of each colour where the network sees a single channel.
        """
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("divisor", divisor)
        self.register_buffer("luminance", luminance)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, classes) float32 of crops (N, 3, H, W) float32, red first, 0-255."""
        if self.luminance is not None:
            pixels = (pixels * self.luminance).sum(1, keepdim=True)
        logits: Tensor = self.network((pixels - self.mean) / self.divisor)
        return logits


def build_from_pixels(network: nn.Module, config: AugmentConfig, shard_set: ShardSet) -> FromPixels:
    """Put what `config` subtracts and divides by, as the shard set's statistics have it, in front of a network."""
    offset, divisor = compute_normalization(config, build_color_statistics(shard_set.info.color, config))
    luminance = torch.tensor(paper.LUMINANCE_WEIGHTS).view(3, 1, 1) if config.gray else None
    mean = torch.from_numpy(offset).view(-1, 1, 1)
    if config.mean in {"centered", "cropped"}:
        mean = _crop_mean_image(config, shard_set)
        mean = mean if luminance is None else (mean * luminance).sum(0, keepdim=True)
    scale = torch.from_numpy(divisor).view(-1, 1, 1)
    return FromPixels(network, mean=mean, divisor=scale, luminance=luminance).eval()


def _crop_mean_image(config: AugmentConfig, shard_set: ShardSet) -> Tensor:
    """The mean image's centre (3, H, W), at the network's size: what is linear may be subtracted before or after."""
    image = torch.from_numpy(shard_set.read_mean_image()).permute(2, 0, 1)
    (view,) = build_views("center", image_pixels=image.shape[-1], crop_pixels=config.crop_pixels)
    crop = image[:, view.top : view.top + config.crop_pixels, view.left : view.left + config.crop_pixels]
    side = config.input_pixels
    if crop.shape[-1] == side:
        return crop.contiguous()
    return F.interpolate(crop[None], size=(side, side), mode="bilinear", antialias=True)[0]


MEAN_OF_A_VIEW = (
    "; the graph subtracts the mean image's centre from each, where `alexnet evaluate` does so before mirroring, and "
    "under the view if the mean is cropped, so that views other than the centre differ a little"
)


def describe_preprocessing(config: AugmentConfig, shard_set: ShardSet) -> dict[str, Any]:
    """What is left to do for whoever has a picture, and what the network then does itself."""
    packing = shard_set.info.packing
    resized = {"crop": "shorter side, then the central square", "warp": "both sides"}[packing.resize]
    subtracted = {
        "centered": "the mean image's centre",
        "cropped": "the mean image's centre",
        "channel": "the mean of each channel",
        "none": "nothing",
    }[config.mean]
    return {
        "picture": f"resized to {packing.pixels} ({resized}), bicubic with antialiasing",
        "crop_pixels": config.crop_pixels,
        "input_pixels": config.input_pixels,  # where they differ, the crop is resized linearly with antialiasing
        "channel_order": "RGB",
        "layout": "NCHW",
        "pixel_range": [0, 255],
        "in_the_graph": {
            "channels": "luminance (ITU-R BT.601)" if config.gray else "RGB",
            "subtracted": subtracted,
            "divided_by": "the deviation of each channel" if config.pixel_scale == "std" else config.pixel_scale,
        },
        "ten_views": "average the softmax probabilities of the four corners, the centre and their mirror images"
        + ("" if config.mean in ("channel", "none") else MEAN_OF_A_VIEW),
    }
