"""One picture: what is cut out of it, what becomes of odd ones, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from pipeline.preprocess.images import UndecodableError, pack_image

SIDE = 256


def encode(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def paint(width: int, height: int) -> Image.Image:
    """Smooth hills that change by some four grey levels a pixel: the JPEG adds little, a shifted crop much."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def resize_then_crop(image: Image.Image) -> np.ndarray:
    """§2 word for word: rescale until the shorter side is 256, then cut out the central square."""
    scale = SIDE / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    whole = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    return whole[top : top + SIDE, left : left + SIDE]


def mean_difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found.astype(np.float64) - expected).mean())


@pytest.mark.parametrize(
    ("width", "height", "tolerance"),
    [
        # The scaled sizes are whole, so only the JPEG differs.
        (640, 512, 0.8),
        (512, 640, 0.8),
        (512, 512, 0.8),
        (256, 256, 0.8),
        (128, 256, 0.8),
        # The oracle rounds the scaled size, so its crop lies up to half a pixel off.
        (421, 300, 2.0),
        (300, 421, 2.0),
        (37, 23, 2.0),
    ],
)
def test_packing_is_resizing_the_shorter_side_and_cutting_the_central_square(width, height, tolerance):
    image = paint(width, height)
    packed = pack_image(encode(image, "PNG"), side=SIDE)
    assert packed.pixels.shape == (SIDE, SIDE, 3)
    assert packed.pixels.dtype == np.uint8
    assert mean_difference(packed.pixels, resize_then_crop(image)) < tolerance


@pytest.mark.parametrize("shape", [(9, 1), (1, 9), (900, 2), (2, 900)])
def test_thin_pictures_become_squares_of_their_middle(shape):
    width, height = shape
    position = np.arange(max(shape))
    in_middle = np.abs(position - position.mean()) < max(shape) / 6
    line = np.where(in_middle[:, None], [200, 30, 30], [30, 30, 200]).astype(np.uint8)
    pixels = np.broadcast_to(line[None] if width > height else line[:, None], (height, width, 3))
    packed = pack_image(encode(Image.fromarray(np.ascontiguousarray(pixels)), "PNG"), side=SIDE)
    assert packed.pixels.shape == (SIDE, SIDE, 3)
    assert np.abs(packed.pixels.astype(int) - [200, 30, 30]).mean() < 8
    assert packed.notes == ("format PNG", f"{width}x{height} enlarged")


def test_stored_bytes_are_a_full_colour_jpeg_that_decodes_to_the_pixels_counted():
    packed = pack_image(encode(paint(300, 280)), side=SIDE)
    stored = Image.open(io.BytesIO(packed.encoded))
    assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", (SIDE, SIDE))
    assert JpegImagePlugin.get_sampling(stored) == 0  # 4:4:4
    np.testing.assert_array_equal(np.asarray(stored), packed.pixels)
    assert packed.notes == ()


def test_grey_jpeg_is_ordinary_and_becomes_three_equal_channels():
    image = paint(320, 300).convert("L")
    packed = pack_image(encode(image, quality=98), side=SIDE)
    assert packed.notes == ()
    assert mean_difference(packed.pixels, resize_then_crop(image.convert("RGB"))) < 1.5
    assert np.ptp(packed.pixels, axis=2).max() == 0


@pytest.mark.parametrize(
    ("mode", "kind", "notes"),
    [
        ("CMYK", "JPEG", ("mode CMYK converted to RGB",)),
        ("RGBA", "PNG", ("format PNG", "mode RGBA converted to RGB")),
        ("LA", "PNG", ("format PNG", "mode LA converted to RGB")),
        ("P", "PNG", ("format PNG", "mode P converted to RGB")),
        ("1", "PNG", ("format PNG", "mode 1 converted to RGB")),
        ("P", "GIF", ("format GIF", "mode P converted to RGB")),
        ("RGB", "BMP", ("format BMP",)),
    ],
)
def test_other_modes_and_formats_become_rgb_and_are_noted(mode, kind, notes):
    image = paint(SIDE, SIDE)
    image = image.quantize(64) if mode == "P" else image.convert(mode, dither=Image.Dither.NONE)
    packed = pack_image(encode(image, kind), side=SIDE)
    assert packed.notes == notes
    assert packed.pixels.shape == (SIDE, SIDE, 3)
    assert mean_difference(packed.pixels, np.asarray(image.convert("RGB"))) < 4  # few colours have hard edges


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight_rather_than_cut_to_white(kind):
    grey = paint(SIDE, SIDE).convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    packed = pack_image(encode(deep, kind), side=SIDE)
    assert packed.notes == (f"format {kind}", "mode I;16 converted to RGB")
    assert mean_difference(packed.pixels, np.asarray(grey.convert("RGB"))) < 0.8


def test_exif_orientation_is_ignored_and_not_stored():
    image = paint(420, 300)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = pack_image(encode(image, quality=95, exif=exif), side=SIDE)
    plain = pack_image(encode(image, quality=95), side=SIDE)
    np.testing.assert_array_equal(turned.pixels, plain.pixels)
    assert len(Image.open(io.BytesIO(turned.encoded)).getexif()) == 0


JPEG = encode(paint(300, 280))
PNG = encode(paint(300, 280), "PNG")


@pytest.mark.parametrize("content", [b"", b"not a picture\n" * 50, b"\x89PNG\r\n\x1a\n", JPEG[:2]])
def test_what_is_no_picture_is_undecodable_and_says_so_in_the_same_words_each_time(content):
    with pytest.raises(UndecodableError, match=r"^no known picture format$"):
        pack_image(content, side=SIDE)


@pytest.mark.parametrize("content", [JPEG[: len(JPEG) // 2], JPEG[:200], JPEG[:-2], PNG[: len(PNG) // 2]])
def test_a_picture_that_was_cut_short_is_undecodable(content):
    with pytest.raises(UndecodableError, match=r"(?i)truncated"):
        pack_image(content, side=SIDE)
