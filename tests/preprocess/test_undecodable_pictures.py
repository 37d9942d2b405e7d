"""What is no picture, or a damaged one, is refused with a reason that is the same each time."""

import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from picture_files import (
    ORIENTATION_6,
    SIDE,
    build_chunk,
    build_exif,
    build_png,
    build_tiff,
    find_segment,
    pack,
    paint,
    patch,
    save,
)
from PIL import Image

from pipeline.preprocess.images import UndecodableError, _tidy

PICTURE = paint(SIDE, SIDE)
JPEG = save(PICTURE, "JPEG")
PNG = save(PICTURE, "PNG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"not a picture\n" * 50, "no known picture format, begins with b'not a picture\\nno'"),
        (JPEG[:2], "no known picture format, begins with b'\\xff\\xd8'"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "no known picture format, begins with b'%!PS-Adobe-3.0 E'",
        ),
        (
            PNG[:8],
            "PNG opening failed. unpack_from requires a buffer of at least 4 bytes for unpacking 4 bytes at offset 0",
        ),
        (PNG[:20], "Truncated"),
        (JPEG[:200], "Truncated File Read"),
        (JPEG[: len(JPEG) // 2], "image file is truncated ("),
        (JPEG[:-2], "image file is truncated ("),
        (PNG[: len(PNG) // 2], "image file is truncated"),
        (save(PICTURE, "GIF")[:5000], "image file is truncated"),
        (save(PICTURE, "BMP")[:5000], "image file is truncated ("),
        (save(PICTURE, "TIFF")[:5000], "image file is truncated ("),
    ],
)
def test_what_is_no_picture_or_a_part_of_one_is_undecodable(content, reason):
    with pytest.raises(UndecodableError) as refusal:
        pack(content)
    assert str(refusal.value).startswith(reason)


FRAME = find_segment(JPEG, b"\xc0")[0]  # marker, length, bits, height, width, number of components


@pytest.mark.parametrize(
    ("position", "replacement", "reason"),
    [
        (FRAME + 1, b"\xc3", "broken data stream when reading image file"),  # lossless
        (FRAME + 4, b"\x0c", "JPEG opening failed. cannot handle 12-bit layers"),
        (FRAME + 5, b"\0\0", "JPEG opening failed. not identified by this driver"),  # the height comes later, or never
        (FRAME + 5, struct.pack(">HH", 9000, 9000), f"9000x9000 pixels cannot be in {len(JPEG):,} bytes of JPEG"),
        (FRAME + 5, struct.pack(">HH", 65500, 65500), "Image size (4290250000 pixels) exceeds limit of "),
        (FRAME + 9, b"\2", "JPEG opening failed. cannot handle 2-layer images"),
    ],
)
def test_a_jpeg_of_an_unknown_kind_or_impossible_size_is_undecodable(position, replacement, reason):
    with pytest.raises(UndecodableError) as refusal:
        pack(patch(JPEG, position, replacement))
    assert str(refusal.value).startswith(reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (build_png(9500, 9500, 1, 0, b""), "Image size (90250000 pixels) exceeds limit of 89478485 pixels, "),
        (build_png(50000, 50000, 1, 0, b""), "Image size (2500000000 pixels) exceeds limit of "),
        (
            build_png(1, 1, 8, 0, bytes(2), build_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(9_000_000)))),
            "Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK",
        ),
    ],
)
def test_a_small_file_that_unpacks_to_very_much_is_undecodable(content, reason):
    with pytest.raises(UndecodableError) as refusal:
        pack(content)
    assert str(refusal.value).startswith(reason)


def test_a_lack_of_memory_is_not_blamed_on_the_picture():
    script = """if True:
        import io, resource
        from PIL import Image
        from pipeline.preprocess.images import Recipe, pack_image
        file = io.BytesIO()
        Image.new("L", (9000, 9000)).save(file, "PNG", compress_level=1)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 40_000_000, resource.RLIM_INFINITY))
        pack_image(file.getvalue(), name="", recipe=Recipe(side=256, resize="crop", encoding="raw", quality=95))
    """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stderr.rstrip().endswith("MemoryError")


def damage(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.2:
        return content[: draw.randrange(len(content))]
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 2, 4, 16))):
        position = draw.randrange(min(len(content), draw.choice((200, len(content)))))
        damaged[position] = draw.choice((0, 1, 128, 255, draw.randrange(256)))
    return bytes(damaged)


def try_to_pack(content: bytes) -> tuple[str, ...]:
    try:
        packed = pack(content, "picture.JPEG")
    except UndecodableError as error:
        return (str(error),)
    assert packed.pixels.shape == (SIDE, SIDE, 3)
    return (packed.encoded.hex(), *packed.notes)


def test_another_process_refuses_in_the_same_words_and_in_silence(tmp_path):
    contents = [b"", b"no picture", JPEG[:-2], PNG[:50], build_tiff({258: 8, 262: 2, 277: 2048}, bytes(100))]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    script = """if True:
        import sys
        from pathlib import Path
        from pipeline.preprocess.images import Recipe, UndecodableError, pack_image
        for path in sys.argv[1:]:
            try:
                recipe = Recipe(side=256, resize="crop", encoding="raw", quality=95)
                pack_image(Path(path).read_bytes(), name="", recipe=recipe)
            except UndecodableError as error:
                print(error)
    """
    ended = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [try_to_pack(content)[0] for content in contents]
    assert ended.stderr == ""


def test_reasons_hold_no_memory_address():
    assert _tidy("cannot read <_io.BytesIO object at 0x7f4ab01c>\n at all") == "cannot read <_io.BytesIO object> at all"


def test_damaged_files_are_packed_or_refused_the_same_way_each_time_and_in_silence(capfd):
    image, draw = paint(60, 44), random.Random(0)
    frames = {"save_all": True, "append_images": [paint(60, 44, 1)]}
    contents = [
        save(image, "JPEG", exif=build_exif(ORIENTATION_6)),
        save(image, "JPEG", progressive=True),
        save(image.convert("CMYK"), "JPEG"),
        save(image, "PNG", exif=build_exif(ORIENTATION_6)),
        save(image.quantize(64), "PNG", transparency=3),
        save(image, "PNG", **frames),
        save(Image.fromarray(np.arange(3000, dtype=np.uint16).reshape(50, 60))),
        save(image, "GIF", **frames),
        save(image, "BMP"),
        save(image, "TIFF", **frames),
        save(image.convert("F"), "TIFF"),
        save(image, "PPM"),
        save(image, "MPO", **frames),
    ]
    for number in range(300):
        content = damage(contents[number % len(contents)], draw)
        outcome = try_to_pack(content)
        assert try_to_pack(content) == outcome
        assert not any("\n" in line or " at 0x" in line for line in outcome)
    assert capfd.readouterr() == ("", "")
