"""The bytes of pictures, and the sentences when a source is no longer what was listed."""

import os
import shutil
from pathlib import Path

import pytest
from official import build_cifar10, build_imagenet, write_cifar10, write_tar

from pipeline.errors import InputError
from pipeline.preprocess.content import ContentReader, locate_container
from pipeline.preprocess.listing import Container
from pipeline.preprocess.sources import Source, read_source

CHANGED = "changed since this shard set was begun .*: put the old file back, or remove --out and begin anew"


def read(root: Path) -> Source:
    return read_source(root, layout=None, val_fraction=None, seed=0, allow_partial=True)


@pytest.fixture(params=["archives", "folders", "tar"])
def listed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Source]:
    """A source of each kind, and what was found in it."""
    net = build_imagenet()
    root = tmp_path / "source"
    if request.param == "archives":
        net.write_archives(root)
    elif request.param == "folders":
        net.write_folders(root)
    else:
        write_tar(root, net.as_members())
    return root, read(root)


def find_file(root: Path, source: Source) -> Path:
    """The file on disk that holds the first training picture."""
    row = source.splits["train"][0]
    path = locate_container(root, source.containers[row["container"]])
    return path / row["name"].decode() if path.is_dir() else path


def test_every_picture_is_read_whatever_holds_it(listed):
    root, source = listed
    expected = {content for pictures in build_imagenet().pictures.values() for _, _, content in pictures}
    with ContentReader(root, source.containers) as reader:
        assert {reader.read(row) for rows in source.splits.values() for row in rows} == expected


def test_a_picture_is_called_by_its_container_and_name(listed):
    root, source = listed
    described = ContentReader(root, source.containers).describe(source.splits["train"][0])
    archive = root / "ILSVRC2012_img_train.tar"
    folder = archive.name if archive.exists() else "train/n01440764"
    assert described == f"{folder}/n01440764_17.JPEG"


def test_a_source_that_is_gone_is_named(listed):
    root, source = listed
    path = find_file(root, source)
    path.unlink()
    with pytest.raises(
        InputError, match=f"{path} does not exist any more: put it back, or remove --out and begin anew"
    ):
        ContentReader(root, source.containers).read(source.splits["train"][0])


def test_a_file_with_another_time_or_length_is_refused(listed):
    root, source = listed
    path, row = find_file(root, source), source.splits["train"][0]
    content = path.read_bytes()
    stamp = path.stat().st_mtime_ns
    with ContentReader(root, source.containers) as reader:
        assert reader.read(row)
        os.utime(path, ns=(stamp, stamp + 1))
        with pytest.raises(InputError, match=f"{path} {CHANGED}"):
            reader.read(row)
    with ContentReader(root, source.containers, check_stamps=False) as reader:
        assert reader.read(row)
    path.write_bytes(content[: int(row["offset"]) + int(row["size"]) - 1])
    os.utime(path, ns=(stamp, stamp))
    with pytest.raises(InputError, match=rf"{path} .*found {row['size'] - 1:,} bytes for a picture of {row['size']:,}"):
        ContentReader(root, source.containers).read(row)


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    root = build_imagenet().write_folders(tmp_path)
    source = read(root)
    path, row = find_file(root, source), source.splits["train"][0]
    path.unlink()
    path.mkdir()  # as the super-user may read any file, a folder stands in for one that may not be read
    with pytest.raises(InputError, match=f"{path} cannot be read .*: mend that, and start again to go on"):
        ContentReader(root, source.containers).read(row)


def test_archives_may_move(tmp_path):
    root = build_imagenet().write_archives(tmp_path / "a")
    source = read(root)
    before = [ContentReader(root, source.containers).read(row) for row in source.splits["val"]]
    shutil.move(root, tmp_path / "b")
    assert [ContentReader(tmp_path / "b", source.containers).read(row) for row in source.splits["val"]] == before


def test_arrays_that_shrank_or_changed_are_refused(tmp_path):
    root = write_cifar10(tmp_path, build_cifar10(20), packed=True)
    source = read(root)
    path, row = root / "cifar-10-python.tar.gz", source.splits["val"][-1]
    stamp = path.stat().st_mtime_ns
    write_cifar10(tmp_path, build_cifar10(10), packed=True)
    os.utime(path, ns=(stamp, stamp + 1))
    with pytest.raises(InputError, match=f"{path} {CHANGED}"):
        ContentReader(root, source.containers).read(row)
    with pytest.raises(InputError, match=f"{path} .*found 60 pictures"):
        ContentReader(root, source.containers, check_stamps=False).read(row)
    path.unlink()
    with pytest.raises(InputError, match="does not exist any more"):
        ContentReader(root, source.containers).read(row)


def test_a_reader_that_was_closed_opens_anew(listed):
    root, source = listed
    reader = ContentReader(root, source.containers)
    first = reader.read(source.splits["train"][0])
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    reader.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files - (source.containers[0].kind == "tar")
    assert reader.read(source.splits["train"][0]) == first
    reader.close()


def test_the_source_itself_is_the_container_called_by_a_dot(tmp_path):
    assert locate_container(tmp_path / "x.tar", Container(path=".", kind="tar")) == tmp_path / "x.tar"
    assert locate_container(tmp_path, Container(path="train/a", kind="folder")) == tmp_path / "train" / "a"
