"""Official archives that were cut short, damaged or joined are refused, with the byte."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from official import SmallImageNet, build_imagenet, pack_tar, rewrite_tar

from pipeline.errors import InputError
from pipeline.preprocess.sources import Source, read_source

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


BLOCK = tarfile.BLOCKSIZE


def read(root: Path, *, allow_partial: bool = True) -> Source:
    return read_source(root, layout=None, val_fraction=None, seed=0, allow_partial=allow_partial)


@pytest.fixture
def net() -> SmallImageNet:
    return build_imagenet()


@pytest.fixture
def root(net: SmallImageNet, tmp_path: Path) -> Path:
    return net.write_archives(tmp_path / "archives")


FIRST, SECOND = "n01440764", "n01440767"


@pytest.mark.parametrize("archive", [TRAIN, VAL])
def test_an_archive_that_was_cut_short_anywhere_is_refused_with_file_and_byte(root, archive):
    path = root / archive
    whole = path.read_bytes()
    with tarfile.open(path) as opened:
        end = max(member.offset_data + -(-member.size // BLOCK) * BLOCK for member in opened)
    assert len(whole) >= end + BLOCK
    for size in range(BLOCK, end + BLOCK, 7 * BLOCK):
        for cut in {size, min(size + 100, end)}:
            path.write_bytes(whole[:cut])
            with pytest.raises(InputError, match=rf"{archive}.* (cut short|damaged) at byte [\d,]+"):
                read(root)
    path.write_bytes(whole[:end])  # exactly behind the last member
    with pytest.raises(InputError, match=rf"cut short at byte {end:,} \(it should end with a block of zeros\): copy"):
        read(root)
    path.write_bytes(whole[: end + BLOCK])
    assert len(read(root).splits) == 2


def test_a_class_archive_that_was_cut_short_is_refused_with_its_byte_in_the_outer_file(root):
    def cut(members):
        content = members[f"{SECOND}.tar"]
        with tarfile.open(fileobj=io.BytesIO(content)) as inner:
            last = inner.getmembers()[-1]
        members[f"{SECOND}.tar"] = content[: last.offset]

    rewrite_tar(root / TRAIN, cut)
    with tarfile.open(root / TRAIN) as archive:
        member = archive.getmember(f"{SECOND}.tar")
    end = member.offset_data + member.size
    with pytest.raises(InputError, match=rf"{TRAIN}, member {SECOND}.tar, is damaged or was cut short at byte {end:,}"):
        read(root)


@pytest.mark.parametrize("archive", [TRAIN, VAL])
def test_any_damaged_header_is_refused_wherever_it_is(root, archive):
    path = root / archive
    whole = path.read_bytes()
    with tarfile.open(path) as opened:
        offsets = [member.offset for member in opened]
    for offset in offsets:
        for damage in (b"\xff" * 4, bytes(BLOCK)):
            content = bytearray(whole)
            content[offset : offset + len(damage)] = damage
            path.write_bytes(content)
            if not any(damage):
                sentence = rf"has an end mark at byte {offset:,} and more data after it: it is damaged \(copy"
            elif offset:
                sentence = rf"is damaged or was cut short at byte {offset:,} \(no valid header\): copy or download"
            else:
                sentence = "is no tar file, or damaged at byte 0: copy or download it again"
            with pytest.raises(InputError, match=sentence):
                read(root, allow_partial=True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"is empty \(0 bytes\): copy or download it again"),
        (gzip.compress(pack_tar({"ILSVRC2012_val_00000001.JPEG": b"x"})), r"is compressed \(gzip\), .*: unpack it"),
        (b"<!DOCTYPE html>" * 100, "is no tar file, or damaged at byte 0"),
        (pack_tar({}), "val has 0 classes and not one picture"),
        (pack_tar({"a/": b"", "README": b"x"}), "val has 0 classes and not one picture"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_archive_of_pictures_is_refused(root, content, sentence):
    (root / VAL).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read(root)


def test_joined_archives_are_refused(root):
    (root / VAL).write_bytes((root / VAL).read_bytes() * 2)
    with pytest.raises(InputError, match=r"end mark at byte .* several archives were joined .*--ignore-zeros"):
        read(root)
