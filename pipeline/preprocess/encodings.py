"""The stored form of a picture: how a square becomes bytes, and how those become pixels again."""

import io
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.options import Encoding

EXTENSIONS: dict[Encoding, str] = {"jpeg": "jpg", "jpeg-420": "jpg", "raw": "npy", "png": "png"}
"""Extension of a tar member, by which `webdataset` knows how to decode it."""

BYTES_PER_PIXEL: dict[Encoding, float] = {"jpeg": 0.64, "jpeg-420": 0.49, "raw": 3.0, "png": 1.81}
"""Size of what is stored, for estimates: ImageNet pictures at quality 95 (`results/preprocess`)."""


def encode_image(image: Image.Image, encoding: Encoding, *, quality: int) -> bytes:
    """Turn a picture into the bytes that are stored; equal pixels give equal bytes.

    Args:
        image: mode RGB, with an empty `info`: Pillow would store a comment or colour profile that it finds there.
        encoding: the form; see `PackingConfig`.
        quality: of a JPEG, 1 to 100 on libjpeg's scale; the lossless forms ignore it.
    """
    assert image.mode == "RGB", image.mode
    assert not image.info, image.info
    buffer = io.BytesIO()
    match encoding:
        case "jpeg":
            image.save(buffer, "JPEG", quality=quality, subsampling="4:4:4")
        case "jpeg-420":
            image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        case "png":
            # On photographs 2% larger than zlib level 6, in a third of the time; beats levels 1 to 3 in both.
            image.save(buffer, "PNG", compress_type=zlib.Z_RLE)
        case "raw":
            np.save(buffer, np.asarray(image), allow_pickle=False)
    return buffer.getvalue()


def decode_pixels(encoded: bytes, encoding: Encoding) -> npt.NDArray[np.uint8]:
    """Decode what `encode_image` returned.

    Returns:
        (height, width, 3) uint8, 0 to 255, perhaps read-only.

    Raises:
        OSError: `encoded` is damaged or of another form; ValueError, EOFError and SyntaxError mean the same.
    """
    if encoding == "raw":
        pixels: npt.NDArray[np.uint8] = np.load(io.BytesIO(encoded), allow_pickle=False)
        return pixels
    with Image.open(io.BytesIO(encoded), formats=["PNG" if encoding == "png" else "JPEG"]) as image:
        return np.asarray(image)
