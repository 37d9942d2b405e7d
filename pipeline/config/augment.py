"""What the network sees of a stored picture."""

from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """What the network sees of a stored 256×256 picture (§4.1)."""

    crop: Literal["random", "center", "resized"] = "random"
    """Training patch: at a random place, in the centre, or a random box resized to the patch's size (not 2012's)."""
    crop_pixels: int = 224
    """Side of the square patch that is cut out, and of what a `resized` box becomes."""
    num_offsets: int = 33
    """Places of a `random` patch in each direction, 0 to one less; 224 in 256 has 33, the paper's 2048 variants 32."""
    area_range: tuple[float, float] = (0.08, 1.0)
    """Share of the picture that a `resized` box covers, drawn uniformly."""
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3)
    """Width by height of a `resized` box, its logarithm drawn uniformly."""
    resize_pixels: int | None = None
    """Side to which each patch is brought, linearly with antialiasing; None keeps --augment.crop-pixels."""
    flip: bool = True
    """Mirror each training patch with probability 1/2."""
    images_per_crop: int = 1
    """Consecutive images of an epoch that share one crop and one flip; 32 in the source."""
    gray: bool = False
    """The network sees luminance (ITU-R BT.601) as its only channel."""
    mean: Literal["centered", "cropped", "channel", "none"] = "centered"
    """What is subtracted: the mean image's centre (source), the mean image cropped with the picture (paper), or the
    mean of each channel."""
    pixel_scale: float | Literal["std"] = 1.0
    """Pixels are divided by this after the mean is subtracted: 1 keeps the range 0-255, std is each channel's own."""
    statistics: Literal["measured", "imagenet"] = "measured"
    """Where channel means, deviations and colour components are from: the shard set, or as published for ImageNet."""
    color_scale: Literal["none", "std", "eigenvalue"] = "std"
    """Length of each colour axis: standard deviation (source) or eigenvalue of pixels on [0, 1] (paper)."""
    color_coefficient_std: float = 0.1
    """Standard deviation of the random coefficient of each colour component."""
    color_divisor: float = 1.0
    """Training images are divided by this as long as colours shift; 1.1 in the source, 1 + the coefficient's."""
    color_off_epoch: int | None = None
    """First epoch (from 0) without colour shift and division; None keeps them to the end."""

    def __post_init__(self) -> None:
        for name in ("crop_pixels", "num_offsets", "images_per_crop", "color_divisor", "resize_pixels", "pixel_scale"):
            value = getattr(self, name)
            flag = f"--augment.{name.replace('_', '-')}"
            check(value in (None, "std") or value > 0, f"{flag} must be positive, found {value}")
        check(
            self.color_coefficient_std >= 0,
            f"--augment.color-coefficient-std must not be negative, found {self.color_coefficient_std}",
        )
        smallest, largest = self.area_range
        check(0 < smallest <= largest <= 1, f"--augment.area-range must rise within (0, 1], found {self.area_range}")
        smallest, largest = self.aspect_range
        check(0 < smallest <= largest, f"--augment.aspect-range must rise from above 0, found {self.aspect_range}")
        check(
            not (self.crop == "resized" and self.mean == "centered"),
            "--augment.mean centered needs patches of one size, which --augment.crop resized has not: take cropped, "
            "channel or none",
        )
        check(
            not (self.gray and self.color_scale != "none"),
            f"--augment.gray leaves no colours to shift, found --augment.color-scale {self.color_scale}: take none",
        )
        check(
            not (self.gray and self.statistics == "imagenet" and self.pixel_scale == "std"),
            "--augment.gray: nobody has published the deviation of ImageNet's luminance: take --augment.statistics "
            "measured or a number as --augment.pixel-scale",
        )

    @property
    def input_pixels(self) -> int:
        """Height and width of what the network sees."""
        return self.resize_pixels or self.crop_pixels

    @property
    def num_channels(self) -> int:
        """Channels of what the network sees."""
        return 1 if self.gray else 3

    def has_color_shift(self, epoch: int) -> bool:
        """Whether colours shift in an epoch; without a shift the source's divisor has nothing to make up for."""
        wanted = self.color_scale != "none" and self.color_coefficient_std > 0
        return wanted and (self.color_off_epoch is None or epoch < self.color_off_epoch)
