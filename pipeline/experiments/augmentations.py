"""The named augmentations: what a network sees of its pictures, as one source or another says."""

from pipeline import paper
from pipeline.config import AugmentConfig
from pipeline.errors import InputError

AUGMENTATIONS: dict[str, AugmentConfig] = {
    "source": AugmentConfig(  # net 145, with its colours on
        crop_pixels=paper.CROP_PIXELS,
        num_offsets=paper.SOURCE_OFFSETS,
        images_per_crop=paper.SOURCE_IMAGES_PER_CROP,
        mean="centered",
        color_scale="std",
        color_coefficient_std=paper.COLOR_COEFFICIENT_STD,
        color_divisor=paper.SOURCE_COLOR_DIVISOR,
    ),
    "paper": AugmentConfig(  # §4.1 taken literally, eigenvalues those of pixels on [0, 1]
        crop_pixels=paper.CROP_PIXELS,
        num_offsets=paper.PAPER_OFFSETS,
        mean="cropped",
        color_scale="eigenvalue",
        color_coefficient_std=paper.COLOR_COEFFICIENT_STD,
    ),
    "caffe": AugmentConfig(  # bvlc_alexnet; its pictures are warped, see `alexnet preprocess --resize warp`
        crop_pixels=paper.CAFFE_CROP_PIXELS,
        num_offsets=paper.CAFFE_OFFSETS,
        mean="cropped",
        color_scale="none",
    ),
    "modern": AugmentConfig(  # torchvision's: random box, flip, mean and deviation of each channel
        crop="resized",
        crop_pixels=paper.CROP_PIXELS,
        mean="channel",
        pixel_scale="std",
        statistics="imagenet",
        color_scale="none",
    ),
    "none": AugmentConfig(  # what evaluation sees, in training, too
        crop="center",
        crop_pixels=paper.CROP_PIXELS,
        flip=False,
        color_scale="none",
    ),
}


def get_augmentation(name: str) -> AugmentConfig:
    """The augmentation of that name.

    Raises:
        InputError: there is none.
    """
    if name not in AUGMENTATIONS:
        raise InputError(f"unknown augmentation {name!r}: choose one of {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[name]
