"""One picture: decode, shorter side to 256, central square, JPEG (§2)."""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

JPEG_QUALITY = 95
ENCODING = f"jpeg-{JPEG_QUALITY}-444"
RESIZE = "shorter side to 256, central square, bicubic with antialiasing, EXIF orientation ignored"


class UndecodableError(Exception):
    """The picture cannot be decoded; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedImage:
    """A picture ready for a shard.

    `encoded` holds the JPEG; `pixels` (256, 256, 3) uint8 are what it decodes to; `notes` says what was odd.
    """

    encoded: bytes
    pixels: npt.NDArray[np.uint8]
    notes: tuple[str, ...]


def pack_image(content: bytes, *, side: int) -> PackedImage:
    """Turn the bytes of a source file into those that are stored, and decode them once more to prove them.

    Args:
        content: the file.
        side: height and width of the result in pixels.

    Raises:
        UndecodableError: no decoder reads it to the end.
    """
    image, notes = _decode(content, side)
    edge = min(image.size)
    left, top = (image.width - edge) / 2, (image.height - edge) / 2
    square = image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + edge, top + edge))
    encoded = io.BytesIO()
    square.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    stored = Image.open(io.BytesIO(encoded.getvalue()))
    return PackedImage(encoded=encoded.getvalue(), pixels=np.asarray(stored), notes=notes)


def _decode(content: bytes, side: int) -> tuple[Image.Image, tuple[str, ...]]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            notes = tuple(_find_oddities(image, side))
            return _convert(image), notes
    except UnidentifiedImageError as error:
        raise UndecodableError("no known picture format") from error  # its own text names a memory address
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UndecodableError(str(error)) from error


def _convert(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would cut every value above 255 down to white
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    return image.convert("RGB")


def _find_oddities(image: Image.Image, side: int) -> list[str]:
    notes = []
    if image.format != "JPEG":
        notes.append(f"format {image.format}")
    if image.mode not in ("RGB", "L"):
        notes.append(f"mode {image.mode} converted to RGB")
    if min(image.size) < side:
        notes.append(f"{image.width}x{image.height} enlarged")
    return notes
