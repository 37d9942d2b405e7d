"""What each stored form of a picture costs and loses: size, PSNR, time to encode and to decode."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tabulate import tabulate
from tqdm import tqdm

from pipeline import paper
from pipeline.options import Encoding
from pipeline.preprocess.encodings import decode_pixels, encode_image
from pipeline.preprocess.images import Recipe, pack_image

QUALITIES = (85, 90, 95, 98, 100)
LOSSLESS = Recipe(side=paper.IMAGE_PIXELS, resize="crop", encoding="raw", quality=0)
MAX_PIXEL = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredForm:
    """What a stored form costs and loses, over the sampled pictures.

    PSNR in dB of the mean squared error over all pictures, against the square before it was encoded; None if lossless.
    """

    encoding: Encoding
    quality: int | None
    kilobytes: float
    psnr: float | None
    encode_milliseconds: float
    decode_milliseconds: float


def measure_stored_forms(contents: Sequence[bytes]) -> Iterator[StoredForm]:
    """Size, loss and time of every form on the same squares."""
    squares = [Image.fromarray(pack_image(c, name="0.jpg", recipe=LOSSLESS).pixels) for c in contents]
    forms: list[tuple[Encoding, int | None]] = [("jpeg", quality) for quality in QUALITIES]
    forms += [*(("jpeg-420", quality) for quality in QUALITIES), ("png", None), ("raw", None)]
    for encoding, quality in tqdm(forms, desc="stored forms", disable=None):
        begin = time.perf_counter()
        encoded = [encode_image(square, encoding, quality=quality or 0) for square in squares]
        middle = time.perf_counter()
        decoded = [decode_pixels(content, encoding) for content in encoded]
        end = time.perf_counter()
        pairs = zip(decoded, squares, strict=True)
        error = float(np.mean([np.mean((pixels - np.asarray(square, np.float64)) ** 2) for pixels, square in pairs]))
        yield StoredForm(
            encoding=encoding,
            quality=quality,
            kilobytes=sum(map(len, encoded)) / len(squares) / 1000,
            psnr=10 * float(np.log10(MAX_PIXEL**2 / error)) if error else None,
            encode_milliseconds=(middle - begin) / len(squares) * 1000,
            decode_milliseconds=(end - middle) / len(squares) * 1000,
        )


def format_stored_forms(forms: Sequence[StoredForm]) -> str:
    """The forms as a table in Markdown."""
    rows = [
        (
            form.encoding,
            form.quality or "",
            f"{form.kilobytes:.1f}",
            f"{form.psnr:.2f}" if form.psnr else "lossless",
            f"{form.encode_milliseconds:.2f}",
            f"{form.decode_milliseconds:.2f}",
        )
        for form in forms
    ]
    headers = ("encoding", "quality", "KB a picture", "PSNR, dB", "encode, ms", "decode, ms")
    return tabulate(rows, headers, "github", disable_numparse=True)
