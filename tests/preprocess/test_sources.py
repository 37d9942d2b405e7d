"""Which layouts are recognised, what is found in folders and single tars, and every sentence that refuses one."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from official import (
    build_cifar10,
    build_fashion_mnist,
    build_imagenet,
    list_keys,
    write_cifar10,
    write_fashion_mnist,
    write_files,
    write_tar,
)

from pipeline import paper
from pipeline.errors import InputError
from pipeline.preprocess.content import ContentReader
from pipeline.preprocess.sources import Source, read_source


def read(
    root: Path, val_fraction: float | None = None, *, seed: int = 0, layout=None, allow_partial: bool = False
) -> Source:
    return read_source(root, layout=layout, val_fraction=val_fraction, seed=seed, allow_partial=allow_partial)


SPLIT_FOLDERS = ("train/b/1.JPEG", "train/a/2.JPEG", "train/a/1.JPEG", "val/a/9.JPEG", "val/b/8.JPEG")


def test_split_folders_give_labels_in_order_of_class_name_and_pictures_in_order_of_key(tmp_path):
    source = read(write_files(tmp_path, *SPLIT_FOLDERS))
    assert source.layout == "folders"
    assert [(info.id, info.name) for info in source.classes] == [("a", "a"), ("b", "b")]
    assert list_keys(source) == {"train": [("a/1", 0), ("a/2", 0), ("b/1", 1)], "val": [("a/9", 0), ("b/8", 1)]}
    row, path = source.splits["train"][1], tmp_path / "train" / "a" / "2.JPEG"
    assert source.containers[row["container"]].path == "train/a"
    assert source.containers[row["container"]].kind == "folder"
    assert (row["name"], row["offset"], row["size"]) == (b"2.JPEG", 0, path.stat().st_size)
    assert row["stamp"] == path.stat().st_mtime_ns
    assert source.ignored == ()
    assert not source.complete


def test_a_test_folder_becomes_a_third_split(tmp_path):
    source = read(write_files(tmp_path, *SPLIT_FOLDERS, "test/a/1.JPEG", "test/b/1.JPEG"))
    assert list(source.splits) == ["train", "val", "test"]
    assert list_keys(source)["test"] == [("a/1", 0), ("b/1", 1)]


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_held_out_pictures_are_the_same_share_of_each_class_chosen_by_the_seed(tmp_path, prefix):
    counts = {"a": 40, "b": 20, "c": 10, "d": 3}
    names = [f"{name}/{number}" for name, count in counts.items() for number in range(count)]
    write_files(tmp_path, *(f"{prefix}{name}.JPEG" for name in names))
    source = read(tmp_path, 0.2)
    train, val = ({key for key, _ in list_keys(source)[split]} for split in ("train", "val"))
    assert len(val) == 15
    assert train | val == set(names)
    assert not train & val
    assert np.bincount(source.splits["val"]["label"], minlength=4).tolist() == [8, 4, 2, 1]
    again, other = read(tmp_path, 0.2), read(tmp_path, 0.2, seed=1)
    assert list_keys(again) == list_keys(source)
    assert {key for key, _ in list_keys(other)["val"]} != val
    assert list_keys(source)["val"] == sorted(list_keys(source)["val"], key=lambda found: (found[1], found[0].encode()))


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.3, 0.5, 0.77])
def test_every_class_gives_its_rounded_share_and_the_total_is_exact(tmp_path, fraction):
    counts = [50, 31, 17, 8, 4]
    write_files(
        tmp_path, *(f"{name}/{number}" for name, count in zip("abcde", counts, strict=True) for number in range(count))
    )
    val = read(tmp_path, fraction).splits["val"]
    assert len(val) == round(sum(counts) * fraction)
    for count, held in zip(counts, np.bincount(val["label"], minlength=5), strict=True):
        assert abs(held - count * fraction) <= 1


def test_a_hold_out_that_leaves_a_class_nothing_to_train_on_is_accepted_only_by_name(tmp_path):
    write_files(tmp_path, *(f"{name}/{number}" for name in "abcdefghij" for number in range(1)))
    with pytest.raises(
        InputError, match=r"--val-fraction 0.2 leaves 2 of 10 classes without training pictures: choose a"
    ):
        read(tmp_path, 0.2)
    source = read(tmp_path, 0.2, allow_partial=True)
    assert len(source.classes) == 10
    assert [len(rows) for rows in source.splits.values()] == [8, 2]


@pytest.mark.parametrize(
    ("files", "val_fraction", "sentence"),
    [
        ((), 0.1, r"holds 0 files and folders \(none\), which are no known layout: expected train/CLASS/NAME.JPEG"),
        (("1.JPEG", "2.JPEG"), 0.1, r"holds 2 files and folders \(1.JPEG, 2.JPEG\), which are no known layout"),
        (("data/a/b/1.JPEG",), None, r"holds 1 files and folders \(data/\), which are no known layout"),
        (("data/train/a/1.JPEG",), None, "has no pictures of its own, but .*/data looks like folders: pass it"),
        (("x/ILSVRC2012_img_train.tar",), 0.1, "has no pictures of its own, but .*/x looks like ilsvrc2012: pass it"),
        (("ILSVRC2012_img_val.tar", "x/1"), 0.1, r"\(ILSVRC2012_img_val.tar, x/\), .* ILSVRC2012_img_train.tar"),
        (("a/.keep", "b/.keep"), 0.1, r"holds 2 files and folders \(a/, b/\), which are no known layout"),
        (("train/1.JPEG", "val/a/1.JPEG"), None, "train has 1 files and no class folders: expected CLASS/NAME.JPEG"),
        (("train/a/1.JPEG", "val/1.JPEG"), None, "val has 1 files and no class folders, and nothing says what"),
        (("train/a/1.JPEG", "val/.keep"), None, "val has 0 files and no class folders, and nothing says what they"),
        (("train/a/1.JPEG", "val/1.JPEG"), 0.1, "val has 1 files and no class folders"),
        (("train/a/1", "train/c/1", "val/a/1"), None, "1 classes, c first, are in only one of train and val: give"),
        (("train/a/1", "val/b/1", "val/a/1"), None, "1 classes, b first, are in only one of train and val: give"),
        (("train/a/1", "val/a/1", "test/b/1"), None, "2 classes, a first, are in only one of train and test: "),
        (("train/a/1", "train/b/.keep", "val/a/1"), None, "1 classes of train, b first, have no picture: fill or"),
        (("train/a/1", "train/b/1", "val/a/1", "val/b/.keep"), None, "1 classes of val, b first, have no picture"),
        (("val/a/1.JPEG",), None, "has val/ but no train/: add it, or pass its class folders"),
        (("val/a/1.JPEG", "test/a/1.JPEG"), 0.1, "has val/, test/ but no train/"),
        (("train/a/1.JPEG", "val/a/1.JPEG"), 0.1, "--val-fraction 0.1 was given but .* has val: leave out one of them"),
        (("train/a/1.JPEG",), None, "has no val/: put it there, or pass --val-fraction 0.1 to hold out a tenth of the"),
        (("a/1.JPEG",), None, "has no val/: put it there, or pass --val-fraction 0.1 to hold out a tenth"),
        (("train/a/1.JPEG", "val/a/.keep"), None, "val has 1 classes and not one picture: expected CLASS/NAME"),
        (("a/1.JPEG", "a/2.JPEG"), 0.1, "0.1 of 2 pictures leaves 0 for val and 2 for train: choose one that leaves"),
        (("a/1.JPEG", "a/2.JPEG"), 1.0, "1.0 of 2 pictures leaves 2 for val and 0 for train: choose one that leaves"),
        (("a/1.JPEG", "a/2.JPEG"), -0.5, "-0.5 of 2 pictures leaves -1 for val and 3 for train"),
    ],
)  # fmt: skip
def test_a_folder_that_does_not_fit_is_refused_with_what_was_found_and_what_to_do(
    tmp_path, files, val_fraction, sentence
):
    with pytest.raises(InputError, match=sentence):
        read(write_files(tmp_path, *files), val_fraction)


def test_a_missing_source_is_refused(tmp_path):
    with pytest.raises(
        InputError, match="nowhere does not exist: pass the folder, or the tar, that holds the pictures"
    ):
        read(tmp_path / "nowhere")


def test_of_two_layouts_that_fit_one_has_to_be_named(tmp_path):
    net = build_imagenet()
    root = net.write_folders(net.write_archives(tmp_path))
    write_cifar10(root, build_cifar10(), packed=False)
    write_fashion_mnist(root, build_fashion_mnist(), packed=False)
    with pytest.raises(
        InputError, match="could be ilsvrc2012 or folders or cifar10 or fashion-mnist: say which with --layout"
    ):
        read(root)
    for layout in ("ilsvrc2012", "folders", "cifar10", "fashion-mnist"):
        assert read(root, layout=layout, allow_partial=True).layout == layout


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        ("ilsvrc2012", "has no development kit of ILSVRC2012"),
        ("ilsvrc2010", "has no development kit of ILSVRC2010"),
        ("cifar10", "has no training pictures of cifar10: expected cifar-10-python.tar.gz"),
        ("fashion-mnist", "has no training pictures of fashion-mnist: expected train-images-idx3-ubyte.gz"),
    ],
)
def test_a_named_layout_that_does_not_fit_says_what_is_missing(tmp_path, layout, sentence):
    write_files(tmp_path, *SPLIT_FOLDERS)
    with pytest.raises(InputError, match=sentence):
        read(tmp_path, layout=layout)
    file = tmp_path / "train" / "a" / "1.JPEG"
    with pytest.raises(InputError, match=f"--layout {layout} needs a folder|1.JPEG cannot be unpacked"):
        read(file, layout=layout)


def test_the_same_pictures_give_the_same_rows_wherever_they_come_from(tmp_path):
    net = build_imagenet(num_classes=6)
    archives = net.write_archives(tmp_path / "archives")
    folders = net.write_folders(tmp_path / "folders")
    net.write_kit(folders)
    flat = net.write_folders(tmp_path / "flat")
    for path in list((flat / "val").iterdir()):
        for picture in path.iterdir():
            picture.rename(flat / "val" / picture.name)
        path.rmdir()
    net.write_kit(flat, unpacked=True)
    kaggle = net.write_kaggle(tmp_path / "kaggle")
    members = list(net.as_members().items())
    random.Random(0).shuffle(members)
    write_tar(tmp_path / "one.tar", dict(members))
    write_tar(tmp_path / "below.tar", {f"./data/imagenet/{name}": content for name, content in members})
    expected = read(archives, allow_partial=True)
    for root in (folders, flat, kaggle, tmp_path / "one.tar", tmp_path / "below.tar"):
        source = read(root, allow_partial=True, layout="folders")
        assert [info.id for info in source.classes] == [info.id for info in expected.classes]
        if root.is_dir():
            assert source.classes == expected.classes
        assert list(source.splits) == ["train", "val"]
        with ContentReader(root, source.containers) as ours, ContentReader(archives, expected.containers) as theirs:
            for split, rows in source.splits.items():
                for field in ("key", "label", "size"):
                    assert np.array_equal(rows[field], expected.splits[split][field])
                assert [ours.read(row) for row in rows] == [theirs.read(row) for row in expected.splits[split]]


def test_the_order_does_not_depend_on_that_of_the_directory(tmp_path, monkeypatch):
    net = build_imagenet(num_classes=5)
    root = net.write_folders(tmp_path)
    before = read(root)
    real = os.scandir

    class Reversed:
        def __init__(self, path):
            with real(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    after = read(root)
    assert after.containers == before.containers
    assert all(np.array_equal(after.splits[split], before.splits[split]) for split in before.splits)


def test_a_thousand_wordnet_ids_are_held_to_the_official_counts(tmp_path, monkeypatch):
    net = build_imagenet(num_classes=4)
    root = net.write_folders(tmp_path)
    assert not read(root).complete
    monkeypatch.setattr(paper, "CLASSES", 4)
    with pytest.raises(
        InputError, match=r"has 14/8 pictures \(train/val\), expected 1,261,406/50,000/150,000 or 1,281,167"
    ):
        read(root)
    assert not read(root, allow_partial=True).complete
    monkeypatch.setitem(paper.NUM_IMAGES, "ILSVRC-2012", {"train": 14, "val": 8})
    assert read(root).complete
    shutil.rmtree(root / "val")
    assert not read(root, 0.2).complete


def test_rows_are_small_and_listed_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.preprocess.listing.ROWS_PER_CHUNK", 3)
    net = build_imagenet()
    source = read(net.write_archives(tmp_path), allow_partial=True)
    assert {split: len(rows) for split, rows in source.splits.items()} == {"train": 14, "val": 8}
    assert source.splits["train"].itemsize == 4 + 8 + 8 + 4 + 8 + 17 + 22


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (("dataset.json", "train/a/1.JPEG"), "is a shard set already: pass the pictures, or train on it"),
        (
            ("n01440764.tar", "n01443537.tar"),
            r"holds class tars like n01440764\.tar, the content of ILSVRC2012_img_train",
        ),
        (("train/a/1.JPEG", "valid/a/1.JPEG"), r"has no val/ \(it has valid/, which are not taken for it\)"),
    ],
)
def test_near_misses_are_named(tmp_path, files, sentence):
    with pytest.raises(InputError, match=sentence):
        read(write_files(tmp_path, *files))
