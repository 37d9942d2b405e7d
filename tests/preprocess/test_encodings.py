"""The stored forms: what each keeps, and that others can read it."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from picture_files import SIDE, mean_difference, pack, paint, save
from PIL import Image, JpegImagePlugin

from pipeline.preprocess.encodings import EXTENSIONS, decode_pixels, encode_image

PICTURE = paint(SIDE, SIDE)


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_raw_and_png_keep_every_pixel(encoding):
    encoded = encode_image(PICTURE, encoding, quality=95)
    np.testing.assert_array_equal(decode_pixels(encoded, encoding), PICTURE)


@pytest.mark.parametrize(("encoding", "sampling"), [("jpeg", 0), ("jpeg-420", 2)])
def test_a_jpeg_has_the_sampling_asked_for_and_comes_closer_with_quality(encoding, sampling):
    sizes, differences = [], []
    for quality in (80, 90, 95, 100):
        encoded = encode_image(PICTURE, encoding, quality=quality)
        assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(encoded))) == sampling
        sizes.append(len(encoded))
        differences.append(mean_difference(decode_pixels(encoded, encoding), PICTURE))
    assert sizes == sorted(sizes)
    assert differences == sorted(differences, reverse=True)
    assert differences[-1] < (0.5 if encoding == "jpeg" else 1.5)


def test_raw_is_a_numpy_file_with_a_header_that_repeats():
    encoded = encode_image(PICTURE, "raw", quality=95)
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (256, 256, 3), }"
    assert encoded[:128] == header.ljust(127) + b"\n"
    assert encoded[128:] == PICTURE.tobytes()


@pytest.mark.parametrize("encoding", EXTENSIONS)
def test_equal_pixels_give_equal_bytes_that_decode_to_the_pixels_counted(encoding):
    packed = pack(save(paint(300, 280)), encoding=encoding)
    assert packed.encoded == pack(save(paint(300, 280)), encoding=encoding).encoded
    assert (packed.pixels.shape, packed.pixels.dtype) == ((SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(packed.pixels, decode_pixels(packed.encoded, encoding))


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves it open
def test_webdataset_decodes_each_form_by_its_extension(tmp_path: Path):
    packed = {encoding: pack(save(paint(300, 280)), encoding=encoding) for encoding in EXTENSIONS}
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for encoding, extension in EXTENSIONS.items():
            member = tarfile.TarInfo(f"{encoding}.{extension}")
            member.size = len(packed[encoding].encoded)
            tar.addfile(member, io.BytesIO(packed[encoding].encoded))
    samples = list(webdataset.WebDataset(str(tmp_path / "shard.tar"), shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == list(EXTENSIONS)
    for (encoding, extension), sample in zip(EXTENSIONS.items(), samples, strict=True):
        np.testing.assert_array_equal(sample[extension], packed[encoding].pixels)


@pytest.mark.parametrize("encoding", ["jpeg", "jpeg-420", "png"])
def test_the_extension_says_what_the_form_is(encoding):
    stored = Image.open(io.BytesIO(encode_image(PICTURE, encoding, quality=95)))
    assert stored.format == Image.registered_extensions()[f".{EXTENSIONS[encoding]}"]


@pytest.mark.parametrize("encoding", EXTENSIONS)
@pytest.mark.parametrize("damage", [lambda encoded: encoded[: len(encoded) // 2], lambda _: b"", lambda _: b"text"])
def test_damaged_bytes_do_not_decode(encoding, damage):
    encoded = encode_image(PICTURE, encoding, quality=95)
    with pytest.raises((EOFError, OSError, SyntaxError, ValueError)):
        decode_pixels(damage(encoded), encoding)
