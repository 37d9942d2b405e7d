"""CIFAR-10 and FashionMNIST as torchvision stores them: the right pixels under the right labels, and no code run."""

import gzip
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torchvision
from official import (
    build_cifar10,
    build_fashion_mnist,
    pack_tar,
    pickle_batch,
    write_cifar10,
    write_fashion_mnist,
)
from PIL import Image

from pipeline.errors import InputError
from pipeline.preprocess.arrays import CIFAR10, FASHION_MNIST
from pipeline.preprocess.content import ContentReader
from pipeline.preprocess.sources import Source, read_source

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def read(root: Path, *, val_fraction: float | None = None, allow_partial: bool = True, layout=None) -> Source:
    return read_source(root, layout=layout, val_fraction=val_fraction, seed=0, allow_partial=allow_partial)


def decode(root: Path, source: Source, split) -> dict[str, tuple[np.ndarray, str]]:
    """Pixels and class name of every picture by the name in the batch."""
    with ContentReader(root, source.containers) as reader:
        return {
            row["name"].decode(): (
                np.asarray(Image.open(io.BytesIO(reader.read(row)))),
                source.classes[row["label"]].name,
            )
            for row in source.splits[split]
        }


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_gives_every_picture_its_pixels_and_class(tmp_path, packed):
    batches = build_cifar10(20)
    source = read(write_cifar10(tmp_path, batches, packed=packed))
    assert source.layout == "cifar10"
    assert [info.id for info in source.classes] == CLASSES
    assert {split: len(rows) for split, rows in source.splits.items()} == {"train": 100, "val": 20}
    for split, names in (("train", [f"data_batch_{number}" for number in range(1, 6)]), ("val", ["test_batch"])):
        found = decode(tmp_path, source, split)
        for name in names:
            pixels, labels = batches[name]
            for number, label in enumerate(labels):
                picture, class_name = found[f"{name}_{number:05d}.ppm"]
                assert np.array_equal(picture, pixels[number])
                assert class_name == CLASSES[label]


def test_cifar10_is_the_same_packed_and_unpacked_and_as_torchvision_reads_it(tmp_path, monkeypatch):
    batches = build_cifar10(20)
    folder = read(write_cifar10(tmp_path / "folder", batches, packed=False))
    archive = read(write_cifar10(tmp_path / "archive", batches, packed=True))
    itself = read(tmp_path / "archive" / "cifar-10-python.tar.gz")
    for split in ("train", "val"):
        for field in ("label", "key", "name", "size"):
            assert np.array_equal(folder.splits[split][field], archive.splits[split][field])
        assert np.array_equal(itself.splits[split], archive.splits[split])
    assert itself.containers[0].path == "."
    contents = [ContentReader(tmp_path / "folder", folder.containers).read(row) for row in folder.splits["val"]]
    reader = ContentReader(tmp_path / "archive" / "cifar-10-python.tar.gz", itself.containers)
    assert contents == [reader.read(row) for row in itself.splits["val"]]
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda _: True)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_load_meta", lambda _: None)
    theirs = torchvision.datasets.CIFAR10(tmp_path / "folder", train=True)
    found = decode(tmp_path / "folder", folder, "train")
    ours = [found[name] for name in sorted(found)]
    assert all(np.array_equal(pixels, np.asarray(theirs[place][0])) for place, (pixels, _) in enumerate(ours))
    assert [CLASSES.index(name) for _, name in ours] == theirs.targets


@pytest.mark.parametrize("packed", [False, True])
def test_fashion_mnist_gives_what_torchvision_reads_and_keeps_the_order_of_its_labels(tmp_path, packed):
    parts = build_fashion_mnist()
    write_fashion_mnist(tmp_path / "plain", parts, packed=False)
    root = write_fashion_mnist(tmp_path / "ours", parts, packed=packed)
    source = read(root)
    assert source.layout == "fashion-mnist"
    assert [info.id for info in source.classes] == [str(label) for label in range(10)]
    for split, is_train, prefix in (("train", True, "train"), ("val", False, "t10k")):
        theirs = torchvision.datasets.FashionMNIST(tmp_path / "plain", train=is_train)
        assert [info.name for info in source.classes] == theirs.classes
        found = decode(root, source, split)
        assert len(found) == len(theirs)
        for place, (picture, label) in enumerate(theirs):
            pixels, name = found[f"{prefix}_{place:05d}.pgm"]
            assert np.array_equal(pixels, np.asarray(picture))
            assert name == theirs.classes[label]


@pytest.mark.parametrize(
    "write",
    [
        lambda root: write_cifar10(root, build_cifar10(20), packed=False),
        lambda root: write_fashion_mnist(root, build_fashion_mnist(100, 20), packed=True),
    ],
)
def test_test_pictures_are_val_unless_a_share_of_the_others_is_held_out(tmp_path, write):
    root = write(tmp_path)
    without, with_share = read(root), read(root, val_fraction=0.2)
    assert list(without.splits) == ["train", "val"]
    assert [len(rows) for rows in with_share.splits.values()] == [80, 20, 20]
    assert np.array_equal(with_share.splits["test"], without.splits["val"])
    assert np.bincount(with_share.splits["val"]["label"]).tolist() == [2] * 10


def test_the_whole_data_sets_are_proved_complete(tmp_path, monkeypatch):
    for dataset, num_train in ((CIFAR10, 100), (FASHION_MNIST, 40)):
        monkeypatch.setitem(dataset.counts, "train", num_train)
        monkeypatch.setitem(dataset.counts, "test", 20)
    cifar10 = write_cifar10(tmp_path / "cifar10", build_cifar10(20), packed=False)
    fashion = write_fashion_mnist(tmp_path / "fashion", build_fashion_mnist(), packed=True)
    assert read(cifar10, allow_partial=False).complete
    assert read(fashion, allow_partial=False).complete
    assert not read(fashion, allow_partial=False, val_fraction=0.5).complete
    (cifar10 / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(InputError, match="lacks data_batch_3: download it again, or accept it with --allow-partial"):
        read(cifar10, allow_partial=False)
    assert len(read(cifar10).splits["train"]) == 80
    assert not read(cifar10).complete


def test_other_counts_than_the_official_are_refused(tmp_path):
    root = write_cifar10(tmp_path, build_cifar10(20), packed=False)
    with pytest.raises(InputError, match=r"has 100/20 pictures \(train/test\), expected 50,000/10,000: copy it again"):
        read(root, allow_partial=False)


class Evil:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("packed", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path, protocol, packed):
    root = write_cifar10(tmp_path / "root", build_cifar10(20), packed=False)
    trace = tmp_path / "ran"
    evil = pickle.dumps({"data": Evil(trace), "labels": [1]}, protocol=protocol)
    if packed:
        members = {
            f"cifar-10-batches-py/{path.name}": path.read_bytes() for path in (root / "cifar-10-batches-py").iterdir()
        }
        members["cifar-10-batches-py/data_batch_2"] = evil
        root = tmp_path / "cifar-10-python.tar.gz"
        root.write_bytes(gzip.compress(pack_tar(members)))
    else:
        (root / "cifar-10-batches-py" / "data_batch_2").write_bytes(evil)
    with pytest.raises(
        InputError, match=r"data_batch_2 is no batch of CIFAR-10 \(it asks for \w+.system, which no batch"
    ):
        read(root)
    assert not trace.exists()
    pickle.loads(evil)  # noqa: S301 - proves that it would have run
    assert trace.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_batches_that_python_3_pickled_are_read_too(tmp_path, protocol):
    batches = build_cifar10(20)
    root = write_cifar10(tmp_path, batches, packed=False)
    pixels, labels = batches["test_batch"]
    rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    batch = {b"data": np.asfortranarray(rows), b"labels": list(np.array(labels))}
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch, protocol=protocol))
    found = decode(root, read(root), "val")
    for number, label in enumerate(labels):
        picture, name = found[f"test_batch_{number:05d}.ppm"]
        assert np.array_equal(picture, pixels[number])
        assert name == CLASSES[label]


PIXELS, LABELS = build_cifar10(20)["test_batch"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"test_batch is no batch of CIFAR-10 \(Ran out of input\): download it again"),
        (b"<html></html>", "is no batch of CIFAR-10"),
        (pickle_batch(PIXELS, LABELS, "x")[:-500], "is no batch of CIFAR-10"),
        (pickle.dumps([1, 2]), "is no batch of CIFAR-10"),
        (pickle.dumps({"labels": LABELS}), r"is no batch of CIFAR-10 \('data'\)"),
        (pickle_batch(PIXELS, LABELS[1:], "x"), "is no batch of CIFAR-10 .*cannot reshape"),
        (pickle_batch(PIXELS.astype(np.float32), LABELS, "x"), "is no batch of CIFAR-10"),
        (pickle_batch(PIXELS, [10, *LABELS[1:]], "x"), "has the label 10, expected 0 to 9"),
        (pickle_batch(PIXELS, [-1, *LABELS[1:]], "x"), "has the label -1, expected 0 to 9"),
    ],
)
def test_a_damaged_batch_is_refused(tmp_path, content, sentence):
    root = write_cifar10(tmp_path, build_cifar10(20), packed=False)
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read(root)


def test_a_damaged_archive_of_batches_is_refused(tmp_path):
    path = write_cifar10(tmp_path, build_cifar10(20), packed=True) / "cifar-10-python.tar.gz"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"<html>" * 99):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"cifar-10-python.tar.gz cannot be unpacked .*: download it again"):
            read(tmp_path)


IMAGES, IDX_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        (IMAGES, b"", f"{IMAGES} is no IDX file, or damaged"),
        (IMAGES, gzip.compress(b"x" * 9999)[:-20], f"{IMAGES} is no IDX file, or damaged"),
        (IMAGES, gzip.compress(struct.pack(">4i", 0x803, 40, 28, 28) + b"x"), f"{IMAGES} is no IDX file, or damaged"),
        (IMAGES, gzip.compress(struct.pack(">4i", 0x802, 1, 1, 1) + b"x"), "begins with 0x802, expected 0x803"),
        (IMAGES, gzip.compress(struct.pack(">4i", 0x803, 1, 1, 1) + b"x"), "has 1 pictures but .* 40 labels"),
        (IDX_LABELS, gzip.compress(struct.pack(">2i", 0x801, 40) + bytes([10] * 40)), "has the label 10, expected 0"),
    ],
)  # fmt: skip
def test_damaged_idx_files_are_refused(tmp_path, file, content, sentence):
    root = write_fashion_mnist(tmp_path, build_fashion_mnist(), packed=True)
    (root / "FashionMNIST" / "raw" / file).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read(root)


def test_missing_files_of_arrays_are_named(tmp_path):
    root = write_fashion_mnist(tmp_path, build_fashion_mnist(), packed=True)
    raw = root / "FashionMNIST" / "raw"
    (raw / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(InputError, match="lacks t10k: download it again, or accept it with --allow-partial"):
        read(root, allow_partial=False)
    with pytest.raises(InputError, match=r"has no val/: put it there, or pass --val-fraction 0.1 to hold out a tenth"):
        read(root)
    assert list(read(root, val_fraction=0.5).splits) == ["train", "val"]
    (raw / IDX_LABELS).unlink()
    with pytest.raises(InputError, match=f"{IDX_LABELS} cannot be read"):
        read(root)
    (raw / IMAGES).unlink()
    with pytest.raises(
        InputError, match=r"has no training pictures of fashion-mnist: expected train-images-idx3-ubyte.gz"
    ):
        read(root)
