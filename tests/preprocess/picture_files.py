"""Picture files that the tests pack, and how."""

import dataclasses
import io
import struct
import zlib

import numpy as np
from PIL import Image

from pipeline.preprocess.images import PackedImage, Recipe, pack_image

SIDE = 256
RAW = Recipe(side=SIDE, resize="crop", encoding="raw", quality=95)
"""What `pixels` shows is then what decoding and resizing made, without the loss of a stored JPEG."""

ORIENTATION_6 = (0x0112, 3, 1, b"\6\0\0\0")
"""For `build_exif`: turned by a quarter."""


def paint(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth hills that change by some four grey levels a pixel: a JPEG adds little, a shifted crop much."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.copy().save(buffer, kind, **options)  # saving leaves traces in `image` that trip other formats
    return buffer.getvalue()


def pack(content: bytes, name: str = "picture", **changes) -> PackedImage:
    return pack_image(content, name=name, recipe=dataclasses.replace(RAW, **changes))


def mean_difference(found: object, expected: object) -> float:
    return float(np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64)).mean())


def find_segment(jpeg: bytes, markers: bytes) -> tuple[int, int]:
    """Start and end of the first segment of a JPEG with one of these markers."""
    position = 2
    while jpeg[position + 1] not in markers:
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4])
    return position, position + 2 + int.from_bytes(jpeg[position + 2 : position + 4])


def patch(content: bytes, position: int, replacement: bytes) -> bytes:
    return content[:position] + replacement + content[position + len(replacement) :]


def add_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + jpeg[2:]


def build_chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def build_png(width: int, height: int, depth: int, color: int, rows: bytes, *chunks: bytes) -> bytes:
    header = build_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    data = build_chunk(b"IDAT", zlib.compress(rows))
    return b"".join((b"\x89PNG\r\n\x1a\n", header, *chunks, data, build_chunk(b"IEND", b"")))


def build_tiff(tags: dict[int, int], data: bytes) -> bytes:
    """A little-endian TIFF of one strip; every tag is a LONG."""
    tags = {256: SIDE, 257: SIDE, 259: 1, 273: 8, 278: SIDE, 279: len(data)} | tags
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def build_exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF of (tag, type, count, four bytes of value) each."""
    body = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)
