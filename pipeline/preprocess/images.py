"""One picture: decode it whatever it is, make it a square (§2), encode that, and decode it again as a proof."""

import dataclasses
import io
import logging
import re
import struct
import textwrap
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageChops, ImageFile, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TiffImageFile

from pipeline.options import Encoding, Resize
from pipeline.preprocess.encodings import decode_pixels, encode_image

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
"""What pictures come in. Pillow's other readers stay shut: EPS, for one, would start Ghostscript."""

DRAFT_MARGIN = 4
"""A JPEG is decoded at 1/2, 1/4 or 1/8 where this leaves at least so many times `side`. The squares then differ by 0.3
grey levels on average from those of a full decoding, while storing them as JPEG changes 1.7; at 2 it would be 0.8."""

FORMAT_OF_EXTENSION = Image.registered_extensions()
"""Format of each extension, lower case with its dot."""

DELIBERATE_ERRORS = (EOFError, OSError, SyntaxError, ValueError, Image.DecompressionBombError, RuntimeWarning)
"""What Pillow raises with a sentence for people; of everything else the type has to be told, too."""

EXIF_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What Pillow raises on EXIF that a camera or an editor got wrong."""

MAX_JPEG_PIXELS_PER_BYTE = 512
"""Each 8x8 block takes a Huffman code, which has at least a bit."""

EXIF_HEADER = b"Exif\0\0"

GZIP_MAGIC, GZIP_WINDOW = b"\x1f\x8b", 31
"""ILSVRC2010's archives are said to hold pictures that were compressed once more, under their usual names."""
MAX_UNPACKED_BYTES = 2**28

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs, it raises as well


class UndecodableError(Exception):
    """The picture cannot be decoded; the message is one line that says why, the same each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How pictures become squares, and how these are stored."""

    side: int
    """Height and width of the square in pixels."""
    resize: Resize
    """`crop`: the shorter side becomes `side`, then the central square is taken (§2); `warp`: the whole picture is
    squeezed into the square, as Caffe's example does."""
    encoding: Encoding
    """Stored form."""
    quality: int
    """Of a JPEG, 1 to 100; the lossless forms ignore it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedImage:
    """A picture ready for a shard."""

    encoded: bytes
    """What is stored."""
    pixels: npt.NDArray[np.uint8]
    """(side, side, 3), 0 to 255, perhaps read-only: what `encoded` decodes to."""
    notes: tuple[str, ...]
    """What was odd about the source and what was done about it, a line each; an ordinary picture has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Decoded:
    image: Image.Image  # mode RGB or L
    size: tuple[float, float]  # width and height in pixels of `image`; whole unless a JPEG was decoded at a fraction
    notes: tuple[str, ...]


def pack_image(content: bytes, *, name: str, recipe: Recipe) -> PackedImage:
    """Turn the bytes of a picture file into those that are stored, and decode these once more to prove them.

    Grey pictures are ordinary. What is transparent comes to lie on white. EXIF orientation is ignored, as in 2012, and
    noted; colour profiles are ignored, as in 2012, and not noted. A TIFF's orientation is applied, by Pillow,
    and noted. Of several frames the first counts.

    Args:
        content: the file.
        name: its name, whose extension is compared with what `content` is.
        recipe: what to make of it.

    Raises:
        UndecodableError: it is no picture, damaged, of a kind that Pillow cannot read, or suspiciously large.
    """
    notes: tuple[str, ...] = ()
    if content.startswith(GZIP_MAGIC):
        content, notes = _unpack(content), ("unpacked from gzip",)
    decoded = _decode(content, name, recipe.side)
    encoded = encode_image(_resize(decoded, recipe), recipe.encoding, quality=recipe.quality)
    pixels = decode_pixels(encoded, recipe.encoding)
    assert pixels.shape == (recipe.side, recipe.side, 3), pixels.shape
    assert pixels.dtype == np.uint8, pixels.dtype
    return PackedImage(encoded=encoded, pixels=pixels, notes=(*notes, *decoded.notes))


def _unpack(content: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=GZIP_WINDOW)
    try:
        unpacked = unpacker.decompress(content, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise UndecodableError(f"gzip that cannot be unpacked: {error}") from error
    if not unpacker.eof:
        raise UndecodableError(f"gzip that is cut short or unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
    return unpacked


def _resize(decoded: _Decoded, recipe: Recipe) -> Image.Image:
    width, height = decoded.size
    box = (0.0, 0.0, width, height)
    if recipe.resize == "crop":
        edge = min(width, height)
        box = ((width - edge) / 2, (height - edge) / 2, (width + edge) / 2, (height + edge) / 2)
    square = decoded.image.resize((recipe.side, recipe.side), Image.Resampling.BICUBIC, box=box)
    square = square if square.mode == "RGB" else square.convert("RGB")
    square.info.clear()
    return square


def _decode(content: bytes, name: str, side: int) -> _Decoded:
    if not content:
        raise UndecodableError("0 bytes")
    with _catch_reasons() as caught:
        try:
            with _open(content) as image:
                _check_size(image, len(content))
                decoded = _read(image, name, side)
        except UnidentifiedImageError as error:  # its own text holds a memory address
            begins = f"no known picture format, begins with {content[:16]!r}"
            raise UndecodableError("; ".join(_list_warnings(caught)) or begins) from error
        except (MemoryError, UndecodableError):
            raise
        except Exception as error:  # on damaged files Pillow's readers raise nearly anything
            words = str(error) if isinstance(error, DELIBERATE_ERRORS) else ""
            raise UndecodableError(_tidy(words or repr(error))) from error
    return dataclasses.replace(decoded, notes=(*decoded.notes, *_list_warnings(caught)))


@contextmanager
def _catch_reasons() -> Iterator[list[warnings.WarningMessage]]:
    """Catch what Pillow warns of, also why a known format is refused, which is else just unidentified."""
    Image.WARN_POSSIBLE_FORMATS = True
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield caught
    finally:
        Image.WARN_POSSIBLE_FORMATS = False


def _open(content: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        if EXIF_HEADER not in content:
            raise
        blanked = content.replace(EXIF_HEADER, bytes(len(EXIF_HEADER)))  # Pillow refuses a JPEG for some invalid EXIF
        return Image.open(io.BytesIO(blanked), formats=FORMATS)


def _check_size(image: ImageFile.ImageFile, num_bytes: int) -> None:
    """Refuse a JPEG whose size must be wrong; libjpeg would fill what is missing with grey."""
    if image.format == "JPEG" and image.width * image.height > MAX_JPEG_PIXELS_PER_BYTE * num_bytes:
        raise UndecodableError(f"{image.width}x{image.height} pixels cannot be in {num_bytes:,} bytes of JPEG")


def _read(image: ImageFile.ImageFile, name: str, side: int) -> _Decoded:
    width, height = image.size
    num_frames = getattr(image, "n_frames", 1)
    packing = str(image.tile[:1])
    draft = image.draft(None, (DRAFT_MARGIN * side, DRAFT_MARGIN * side))
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    turned = tags.get(ExifTags.Base.Orientation, 1)  # before loading, which turns a TIFF
    image.load()
    notes = [
        *_compare_extension(image, name),
        *([f"first of {num_frames} frames"] if num_frames > 1 else []),
        *_find_orientation(image),
        *([_tidy(f"TIFF orientation {turned!r} applied")] if turned != 1 else []),
        *([f"{width}x{height} enlarged"] if min(width, height) < side else []),
    ]
    converted, conversions = _convert_to_rgb(image, packing)
    return _Decoded(image=converted, size=draft[1][2:] if draft else image.size, notes=(*notes, *conversions))


def _compare_extension(image: ImageFile.ImageFile, name: str) -> list[str]:
    extension = PurePosixPath(name).suffix
    found = "JPEG" if image.format == "MPO" else image.format  # a JPEG with further frames
    named = FORMAT_OF_EXTENSION.get(extension.lower(), found)
    return [f"{found} with the extension {extension}"] if named != found else []


def _find_orientation(image: Image.Image) -> list[str]:
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except EXIF_ERRORS as error:
        return [_tidy(f"invalid EXIF ignored: {error}")]
    return [_tidy(f"EXIF orientation {orientation!r} ignored")] if orientation != 1 else []


def _convert_to_rgb(image: ImageFile.ImageFile, packing: str) -> tuple[Image.Image, list[str]]:
    """Return the picture in mode RGB or L and what that took; `packing` names the bits in the file."""
    ignored = []
    if ";16" in packing and image.info.pop("transparency", None) is not None:
        ignored.append("transparent colour of 16 bits ignored")  # Pillow would compare it with 8 bits
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    image.info.pop("transparency", None)  # or every further conversion warns
    opaque, conversions = _convert_colors(image, packing)
    notes = ignored + conversions
    if alpha is None or alpha.getextrema() == (255, 255):
        return opaque, notes
    on_white = Image.composite(opaque.convert("RGB"), Image.new("RGB", image.size, "white"), alpha)
    return on_white, [*notes, "transparent parts laid on white"]


def _convert_colors(image: ImageFile.ImageFile, packing: str) -> tuple[Image.Image, list[str]]:
    mode = "YCCK" if image.mode == "CMYK" and image.info.get("adobe_transform") == 2 else image.mode
    converted = f"mode {mode} converted to RGB"
    if mode.startswith(("I", "F")):
        top = 1 if mode == "F" else 4095 if ";12" in packing else 65535
        return _scale_to_8_bits(image, top), [converted, f"{top} scaled to 255"]
    if mode == "CMYK" and image.format == "JPEG" and "adobe_transform" not in image.info:
        # Pillow takes every JPEG for one of Adobe's, who store 255 for no ink.
        return ImageChops.invert(image).convert("RGB"), [converted, "no Adobe marker, so 0 is no ink"]
    if mode == "LAB" and not features.check("littlecms2"):
        raise UndecodableError("mode LAB, for which Pillow must be built with LittleCMS")
    deep = ["16 bits a channel, of which the upper 8 count"] if ";16" in packing else []
    return (image, deep) if mode in ("RGB", "L") else (image.convert("RGB"), [converted, *deep])


def _scale_to_8_bits(image: Image.Image, top: int) -> Image.Image:
    """Scale deep grey so that `top` becomes 255; Pillow itself would turn all above 255 into white."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= top):  # not a number fails, too
        raise UndecodableError(f"mode {image.mode} with values from {low:g} to {high:g} instead of 0 to {top}")
    return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))


def _list_warnings(caught: list[warnings.WarningMessage]) -> list[str]:
    return list(dict.fromkeys(_tidy(str(warning.message)) for warning in caught))


def _tidy(text: str) -> str:
    """Make one short line of what Pillow says, the same in every process."""
    return textwrap.shorten(re.sub(r" at 0x[0-9a-f]+", "", text), width=200, placeholder=" …")
