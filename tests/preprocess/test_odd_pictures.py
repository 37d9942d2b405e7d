"""Pictures that are odd and are handled, each with a note that says how."""

import gzip
import struct

import numpy as np
import pytest
from picture_files import (
    ORIENTATION_6,
    SIDE,
    add_segment,
    build_exif,
    build_png,
    build_tiff,
    find_segment,
    mean_difference,
    pack,
    paint,
    patch,
    save,
)
from PIL import Image, ImageChops

from pipeline.preprocess.images import UndecodableError

PICTURE = paint(SIDE, SIDE)
GREY = np.asarray(PICTURE.convert("L"))
JPEG = save(PICTURE, "JPEG")
PNG = save(PICTURE, "PNG")


def test_a_picture_inside_gzip_is_unpacked():
    packed, plain = pack(gzip.compress(JPEG, mtime=0), "n1.JPEG"), pack(JPEG, "n1.JPEG")
    assert packed.notes == ("unpacked from gzip", *plain.notes)
    assert packed.encoded == plain.encoded


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(JPEG)[:-20], "gzip that is cut short"),
        (b"\x1f\x8b" + b"\xff" * 40, "gzip that cannot be unpacked"),
        (gzip.compress(b"text"), "no known picture format"),
        (gzip.compress(bytes(2**28 + 1), 1), "unpacks to more than 268,435,456 bytes"),
    ],
)
def test_gzip_that_holds_no_whole_picture_is_undecodable(content, reason):
    with pytest.raises(UndecodableError, match=reason):
        pack(content, "n1.JPEG")


def test_a_tiff_is_turned_by_its_orientation_and_noted():
    turned, plain = pack(save(PICTURE, "TIFF", tiffinfo={274: 3}), "n1.tif"), pack(save(PICTURE, "TIFF"), "n1.tif")
    assert set(turned.notes) - set(plain.notes) == {"TIFF orientation 3 applied"}
    assert mean_difference(turned.pixels, plain.pixels[::-1, ::-1]) < 3


# Inks


CYAN, MAGENTA, YELLOW, BLACK = (np.asarray(paint(SIDE, SIDE, seed).convert("L")) for seed in range(4))
INKS = Image.merge("CMYK", [Image.fromarray(ink) for ink in (CYAN, MAGENTA, YELLOW, BLACK // 2)])
INKS_AS_RGB = (255.0 - np.stack([CYAN, MAGENTA, YELLOW], axis=2)) * (255.0 - BLACK[..., None] // 2) / 255


def test_cmyk_with_adobe_marker_is_stored_inverted():
    packed = pack(save(INKS, "JPEG", quality=98), "inks.jpg")
    assert mean_difference(packed.pixels, INKS_AS_RGB) < 1
    assert packed.notes == ("mode CMYK converted to RGB",)


def test_cmyk_without_adobe_marker_is_stored_as_it_is():
    jpeg = save(ImageChops.invert(INKS), "JPEG", quality=98)  # Pillow inverts when it saves, so this stores INKS
    start, end = find_segment(jpeg, b"\xee")
    packed = pack(jpeg[:start] + jpeg[end:], "inks.jpg")
    assert mean_difference(packed.pixels, INKS_AS_RGB) < 1
    assert packed.notes == ("mode CMYK converted to RGB", "no Adobe marker, so 0 is no ink")


def test_ycck_is_converted_to_inks_first():
    *colors, black = INKS.split()
    planes = [ImageChops.invert(plane) for plane in Image.merge("RGB", colors).convert("YCbCr").split()]
    jpeg = save(Image.merge("CMYK", [*planes, black]), "JPEG", quality=98)
    marker = find_segment(jpeg, b"\xee")[1] - 1
    assert jpeg[marker] == 0
    packed = pack(patch(jpeg, marker, b"\x02"), "inks.jpg")
    assert mean_difference(packed.pixels, INKS_AS_RGB) < 1.5
    assert packed.notes == ("mode YCCK converted to RGB",)


def test_cmyk_in_a_tiff_is_not_inverted():
    packed = pack(save(INKS, "TIFF"))
    assert mean_difference(packed.pixels, INKS_AS_RGB) < 0.6
    assert packed.notes == ("mode CMYK converted to RGB",)


# Modes and depths


@pytest.mark.parametrize(
    ("mode", "kind"), [("1", "PNG"), ("1", "TIFF"), ("P", "PNG"), ("P", "GIF"), ("P", "BMP"), ("CMYK", "TIFF")]
)
def test_other_modes_become_rgb_and_are_noted(mode, kind):
    image = PICTURE.quantize(64) if mode == "P" else PICTURE.convert(mode)
    packed = pack(save(image, kind))
    np.testing.assert_array_equal(packed.pixels, image.convert("RGB"))
    assert packed.notes == (f"mode {mode} converted to RGB",)


@pytest.mark.parametrize(("kind", "order"), [("PNG", "<u2"), ("PPM", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2")])
def test_sixteen_bits_of_grey_are_scaled_to_eight_rather_than_cut_to_white(kind, order):
    packed = pack(save(Image.fromarray((GREY.astype(np.uint16) * 257).astype(order)), kind))
    np.testing.assert_array_equal(packed.pixels, np.repeat(GREY[..., None], 3, axis=2))
    assert packed.notes[0].startswith("mode I")
    assert packed.notes[1:] == ("65535 scaled to 255",)


def test_32_bits_of_grey_are_taken_for_16():
    packed = pack(save(Image.fromarray(GREY.astype(np.int32) * 257), "TIFF"))
    np.testing.assert_array_equal(packed.pixels, np.repeat(GREY[..., None], 3, axis=2))
    assert packed.notes == ("mode I converted to RGB", "65535 scaled to 255")


def test_floats_from_0_to_1_are_scaled_to_eight_bits():
    packed = pack(save(Image.fromarray((GREY / 255).astype(np.float32)), "TIFF"))
    np.testing.assert_array_equal(packed.pixels, np.repeat(GREY[..., None], 3, axis=2))
    assert packed.notes == ("mode F converted to RGB", "1 scaled to 255")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[-1, 5]], np.int32), "mode I with values from -1 to 5 instead of 0 to 65535"),
        (np.array([[0, 65536]], np.int32), "mode I with values from 0 to 65536 instead of 0 to 65535"),
        (np.array([[0, 2]], np.float32), "mode F with values from 0 to 2 instead of 0 to 1"),
        (np.array([[np.nan, 0]], np.float32), "mode F with values from nan to nan instead of 0 to 1"),
    ],
)
def test_deep_grey_of_unknown_range_is_undecodable(values, reason):
    with pytest.raises(UndecodableError) as refusal:
        pack(save(Image.fromarray(values), "TIFF"))
    assert str(refusal.value) == reason


def test_twelve_bits_of_grey_are_scaled_from_4095():
    deep = GREY.astype(np.uint32) * 4095 // 255
    pairs = (deep[:, ::2] << 12 | deep[:, 1::2]).astype(">u4").reshape(-1, 1).view(np.uint8)[:, 1:]
    packed = pack(build_tiff({258: 12, 262: 1, 277: 1}, pairs.tobytes()), "grey.tif")
    assert mean_difference(packed.pixels[..., 0], GREY) < 0.5
    assert packed.notes == ("mode I;16 converted to RGB", "4095 scaled to 255")


def test_of_16_bits_of_colour_the_upper_8_count():
    deep = np.asarray(PICTURE).astype(">u2") * 256 + np.asarray(PICTURE)[::-1]
    rows = np.insert(deep.astype(">u2").reshape(SIDE, -1).view(np.uint8), 0, 0, axis=1)  # 0: no filter
    packed = pack(build_png(SIDE, SIDE, 16, 2, rows.tobytes()))
    np.testing.assert_array_equal(packed.pixels, PICTURE)
    assert packed.notes == ("16 bits a channel, of which the upper 8 count",)


def test_lab_needs_what_is_not_compiled_in_and_says_so():
    with pytest.raises(UndecodableError, match=r"^mode LAB, for which Pillow must be built with LittleCMS$"):
        pack(save(Image.new("LAB", (20, 20)), "TIFF"))


# Transparency


ALPHA = np.asarray(paint(SIDE, SIDE, 9).convert("L"))
ON_WHITE = 255 + (np.asarray(PICTURE, np.float64) - 255) * ALPHA[..., None] / 255
GREY_ON_WHITE = np.repeat(255 + (GREY[..., None].astype(np.float64) - 255) * ALPHA[..., None] / 255, 3, axis=2)


def add_alpha(image: Image.Image, mode: str, alpha: np.ndarray = ALPHA) -> Image.Image:
    image = image.convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("mode", "expected"), [("RGBA", ON_WHITE), ("LA", GREY_ON_WHITE)])
def test_what_is_transparent_is_laid_on_white(kind, mode, expected):
    packed = pack(save(add_alpha(PICTURE, mode), kind))
    assert np.abs(packed.pixels - expected).max() <= 1
    assert packed.notes == (f"mode {mode} converted to RGB", "transparent parts laid on white")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_opaque_alpha_channel_changes_nothing(mode):
    packed = pack(save(add_alpha(PICTURE, mode, np.full((SIDE, SIDE), 255, np.uint8))))
    np.testing.assert_array_equal(packed.pixels, PICTURE.convert(mode).convert("RGB"))
    assert packed.notes == (f"mode {mode} converted to RGB",)


def test_colours_multiplied_by_alpha_are_not_multiplied_again():
    multiplied = np.rint(np.asarray(PICTURE) * (ALPHA[..., None] / 255)).astype(np.uint8)
    tiff = save(add_alpha(Image.fromarray(multiplied), "RGBA"), "TIFF")
    unassociated, associated = (struct.pack("<HHIHH", 338, 3, 1, kind, 0) for kind in (2, 1))
    assert tiff.count(unassociated) == 1
    packed = pack(tiff.replace(unassociated, associated))
    assert np.abs(packed.pixels - ON_WHITE).max() <= 2
    assert packed.notes == ("mode RGBA converted to RGB", "transparent parts laid on white")


def test_transparent_palette_entries_are_laid_on_white():
    image = PICTURE.quantize(16)
    numbers, colors = np.asarray(image), np.asarray(image.convert("RGB"), np.float64)
    one = pack(save(image, transparency=3))
    np.testing.assert_array_equal(one.pixels, np.where((numbers == 3)[..., None], 255, colors))
    several = pack(save(image, transparency=bytes([0, 128])))
    alpha = np.where(numbers == 0, 0, np.where(numbers == 1, 128, 255))[..., None] / 255
    assert np.abs(several.pixels - (255 + (colors - 255) * alpha)).max() <= 1
    assert one.notes == several.notes == ("mode P converted to RGB", "transparent parts laid on white")


def test_a_transparent_palette_entry_that_no_pixel_has_changes_nothing():
    image = Image.fromarray(GREY // 2)
    palette = Image.fromarray(GREY // 2).convert("P")
    packed = pack(save(palette, "GIF", transparency=255))
    np.testing.assert_array_equal(packed.pixels, image.convert("RGB"))
    assert "transparent parts laid on white" not in packed.notes


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_is_laid_on_white(mode):
    image = PICTURE.convert(mode)
    key = image.getpixel((10, 20))
    chosen = (np.asarray(image.convert("RGB")) == np.asarray(key)).all(axis=2, keepdims=True)
    packed = pack(save(image, transparency=key))
    np.testing.assert_array_equal(packed.pixels, np.where(chosen, 255, np.asarray(image.convert("RGB"))))
    assert packed.notes == ("transparent parts laid on white",)


def test_a_transparent_colour_of_16_bits_is_ignored():  # Pillow would make others transparent
    deep = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE))
    packed = pack(save(deep, transparency=3152))
    np.testing.assert_array_equal(packed.pixels, pack(save(deep)).pixels)
    assert "transparent colour of 16 bits ignored" in packed.notes


# Metadata


def strip_jfif(jpeg: bytes) -> bytes:
    start, end = find_segment(jpeg, b"\xe0")
    return jpeg[:start] + jpeg[end:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_ignored_and_noted(kind):
    turned = pack(save(PICTURE, kind, exif=build_exif(ORIENTATION_6)))
    np.testing.assert_array_equal(turned.pixels, pack(save(PICTURE, kind)).pixels)
    assert turned.notes == ("EXIF orientation 6 ignored",)
    assert pack(save(PICTURE, kind, exif=build_exif((0x0112, 3, 1, b"\1\0\0\0")))).notes == ()


@pytest.mark.parametrize(
    ("exif", "note"),
    [
        (b"Exif\0\0no EXIF at all", "invalid EXIF ignored: not a TIFF file (header b'no EXIF ' not valid)"),
        (build_exif(ORIENTATION_6)[:-9], "Corrupt EXIF data. Expecting to read 12 bytes but only got 7."),
        (build_exif((0x010F, 2, 9999, bytes(4))), "Truncated File Read"),
        # Pillow takes the empty text for the resolution and refuses the picture.
        (
            build_exif((0x011A, 2, 1, bytes(4)), (0x0128, 3, 1, b"\2\0\0\0")),
            "JPEG opening failed. string index out of range",
        ),
    ],
)
def test_invalid_exif_is_ignored_and_noted(exif, note):
    packed = pack(add_segment(strip_jfif(JPEG), 0xE1, exif))
    np.testing.assert_array_equal(packed.pixels, pack(JPEG).pixels)
    assert packed.notes == (note,)


def test_xmp_that_is_no_text_does_not_harm():  # as in ImageNet's n04532106_1553, Pillow issue 8957
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>\xa8\xff</x:xmpmeta>"
    packed = pack(add_segment(JPEG, 0xE1, xmp))
    np.testing.assert_array_equal(packed.pixels, pack(JPEG).pixels)
    assert packed.notes == ()


def test_what_pillow_warns_of_becomes_a_note():
    packed = pack(add_segment(JPEG, 0xE2, b"MPF\0no index of pictures"))
    np.testing.assert_array_equal(packed.pixels, pack(JPEG).pixels)
    assert packed.notes == ("Image appears to be a malformed MPO file, it will be interpreted as a base JPEG file",)


@pytest.mark.parametrize("content", [JPEG, PNG])
def test_what_follows_the_picture_does_not_matter(content):
    packed = pack(content + b"something else" * 1000)
    np.testing.assert_array_equal(packed.pixels, pack(content).pixels)
    assert packed.notes == ()


# Several frames


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "MPO"])
def test_of_several_frames_the_first_counts(kind):
    frames = [paint(SIDE, SIDE, seed).quantize(32).convert("RGB") for seed in range(3)]
    packed = pack(save(frames[0], kind, save_all=True, append_images=frames[1:]), "picture")
    alone = pack(save(frames[0], "JPEG" if kind == "MPO" else kind))
    np.testing.assert_array_equal(packed.pixels, alone.pixels)
    assert packed.notes == ("first of 3 frames", *alone.notes)
