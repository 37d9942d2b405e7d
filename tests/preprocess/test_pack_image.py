"""One ordinary picture: what is cut out of it or warped, and what is stored."""

import io

import numpy as np
import pytest
from picture_files import SIDE, mean_difference, pack, paint, save
from PIL import Image, JpegImagePlugin


def resize_then_crop(image: Image.Image, side: int = SIDE) -> np.ndarray:
    """§2 word for word: rescale until the shorter side is 256, then cut out the central square."""
    scale = side / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    whole = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - side) // 2, (width - side) // 2
    return whole[top : top + side, left : left + side]


@pytest.mark.parametrize(
    ("width", "height", "tolerance"),
    [
        # The scaled sizes are whole, so the ways differ only in rounding.
        (640, 512, 0.01),
        (512, 640, 0.01),
        (512, 512, 0.01),
        (256, 256, 0),
        (128, 256, 0.01),
        # The oracle rounds the scaled size, so its crop lies up to half a pixel off.
        (421, 300, 1.5),
        (300, 421, 1.5),
        (37, 23, 1.5),
    ],
)
def test_cropping_is_resizing_the_shorter_side_and_cutting_the_central_square(width, height, tolerance):
    image = paint(width, height)
    packed = pack(save(image))
    assert packed.pixels.shape == (SIDE, SIDE, 3)
    assert packed.pixels.dtype == np.uint8
    assert mean_difference(packed.pixels, resize_then_crop(image)) <= tolerance


@pytest.mark.parametrize("size", [(640, 300), (300, 640), (256, 256), (30, 700)])
def test_warping_squeezes_the_whole_picture_into_the_square(size):
    image = paint(*size)
    expected = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pack(save(image), resize="warp").pixels, expected)


@pytest.mark.parametrize("resize", ["crop", "warp"])
def test_detail_finer_than_a_pixel_becomes_grey_instead_of_a_pattern(resize):
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = pack(save(Image.fromarray(stripes)), resize=resize).pixels
    assert 126 <= pixels[:, 8:-8].min() <= pixels[:, 8:-8].max() <= 129


@pytest.mark.parametrize("shape", [(9, 1), (1, 9), (900, 2), (2, 900)])
def test_thin_pictures_become_squares_of_their_middle(shape):
    width, height = shape
    position = np.arange(max(shape))
    in_middle = np.abs(position - position.mean()) < max(shape) / 6
    line = np.where(in_middle[:, None], [200, 30, 30], [30, 30, 200]).astype(np.uint8)
    pixels = np.broadcast_to(line[None] if width > height else line[:, None], (height, width, 3))
    packed = pack(save(Image.fromarray(np.ascontiguousarray(pixels))))
    assert packed.pixels.shape == (SIDE, SIDE, 3)
    assert mean_difference(packed.pixels, [200, 30, 30]) < 8
    assert packed.notes == (f"{width}x{height} enlarged",)


@pytest.mark.parametrize("size", [(1030, 1025), (2057, 1100), (1100, 2057), (643, 516)])
def test_a_jpeg_many_times_too_large_is_decoded_at_a_fraction_and_hardly_differs(size):
    content = save(paint(*size), "JPEG", quality=95, subsampling=0)
    full = Image.open(io.BytesIO(content))
    for resize in ("crop", "warp"):
        packed = pack(content, side=64, resize=resize)
        edge, (width, height) = min(size), size
        left, top = (width - edge) / 2, (height - edge) / 2
        box = (left, top, left + edge, top + edge) if resize == "crop" else None
        expected = full.resize((64, 64), Image.Resampling.BICUBIC, box=box)
        assert 0 < mean_difference(packed.pixels, expected) < 0.3
        assert packed.notes == ()


def test_a_jpeg_that_is_not_so_large_is_decoded_in_full():
    content = save(paint(600, 511), "JPEG", quality=95)
    expected = Image.open(io.BytesIO(content)).resize((64, 64), Image.Resampling.BICUBIC, box=(44.5, 0, 555.5, 511))
    np.testing.assert_array_equal(pack(content, side=64).pixels, expected)


def test_stored_bytes_are_a_full_colour_jpeg_that_decodes_to_the_pixels_counted():
    packed = pack(save(paint(300, 280), "JPEG"), "picture.JPEG", encoding="jpeg")
    stored = Image.open(io.BytesIO(packed.encoded))
    assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", (SIDE, SIDE))
    assert JpegImagePlugin.get_sampling(stored) == 0  # 4:4:4
    np.testing.assert_array_equal(np.asarray(stored), packed.pixels)
    assert packed.notes == ()


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_comment_profile_and_exif_of_the_source_are_not_stored(encoding):
    exif = Image.Exif()
    exif[0x010E] = "a remark in the EXIF"
    options = {"comment": b"a comment", "icc_profile": b"a profile", "exif": exif, "xmp": b"a packet"}
    packed = pack(save(paint(300, 280), "JPEG", **options), encoding=encoding)
    stored = Image.open(io.BytesIO(packed.encoded))
    assert not stored.getexif()
    assert not {"comment", "icc_profile", "exif", "xmp"} & set(stored.info)
    assert packed.encoded == pack(save(paint(300, 280), "JPEG"), encoding=encoding).encoded
    assert packed.notes == ()


@pytest.mark.parametrize("encoding", ["jpeg", "jpeg-420", "raw", "png"])
def test_grey_is_ordinary_and_becomes_three_equal_channels(encoding):
    image = paint(320, 300).convert("L")
    packed = pack(save(image, "JPEG", quality=98), "picture.jpg", encoding=encoding)
    assert packed.notes == ()
    assert packed.pixels.shape == (SIDE, SIDE, 3)
    assert mean_difference(packed.pixels, resize_then_crop(image.convert("RGB"))) < 1.5
    assert np.ptp(packed.pixels, axis=2).max() == 0


def test_a_progressive_jpeg_is_ordinary():
    image = paint(320, 300)
    progressive = pack(save(image, "JPEG", progressive=True), "picture.jpeg")
    np.testing.assert_array_equal(progressive.pixels, pack(save(image, "JPEG")).pixels)
    assert progressive.notes == ()


@pytest.mark.parametrize(("mode", "name"), [("RGB", "row.ppm"), ("L", "row.pgm")])
def test_a_picture_of_the_stored_size_is_kept_as_it_is(mode, name):
    image = paint(32, 32).convert(mode)
    packed = pack(save(image, "PPM"), name, side=32)
    np.testing.assert_array_equal(packed.pixels, image.convert("RGB"))
    assert packed.notes == ()


@pytest.mark.parametrize(
    ("kind", "name", "notes"),
    [
        ("JPEG", "n01440764_1.JPEG", ()),
        ("JPEG", "n01440764_1.jpg", ()),
        ("JPEG", "n01440764_1", ()),
        ("JPEG", "n01440764.1", ()),
        ("PNG", "folder.jpeg/picture.png", ()),
        ("PNG", "n02105855_2933.JPEG", ("PNG with the extension .JPEG",)),
        ("JPEG", "picture.png", ("JPEG with the extension .png",)),
        ("BMP", "picture.JPEG", ("BMP with the extension .JPEG",)),
        ("TIFF", "picture.tif", ()),
        ("MPO", "picture.JPG", ("first of 2 frames",)),
        ("GIF", "picture.gif", ("mode P converted to RGB",)),
    ],
)
def test_a_format_that_disagrees_with_the_extension_is_noted(kind, name, notes):
    options = {"save_all": True, "append_images": [paint(SIDE, SIDE, 1)]} if kind == "MPO" else {}
    assert pack(save(paint(SIDE, SIDE), kind, **options), name).notes == notes
