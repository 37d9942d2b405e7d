"""Pictures of smooth noise, about as costly to decode as photographs, for benchmarks where none are at hand."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.options import Encoding, PreprocessConfig
from pipeline.preprocess.stage import preprocess

NUM_CLASSES, NUM_KNOTS, SIZE, JPEG_QUALITY = 4, (36, 48), (500, 375), 95


def write_noise(folder: Path, num_images: int) -> None:
    """Write JPEG files of 500×375, `CLASS/NAME.JPEG`."""
    generator = np.random.default_rng(0)
    for number in range(num_images):
        coarse = generator.integers(0, 256, (*NUM_KNOTS, 3), dtype=np.uint8)
        path = folder / f"class-{number % NUM_CLASSES}" / f"{number:04d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(path, "JPEG", quality=JPEG_QUALITY)


def pack_noise(folder: Path, num_images: int, encoding: Encoding) -> Path:
    """Pack such pictures, a tenth of them to validate, where no shard set is at hand; returns where."""
    if not (folder / "pictures").is_dir():
        write_noise(folder / "pictures", num_images)
    out = folder / encoding
    preprocess(PreprocessConfig(source=folder / "pictures", out=out, val_fraction=0.1, encoding=encoding))
    return out
