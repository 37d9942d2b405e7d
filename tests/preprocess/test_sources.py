"""Which pictures are found, how they are named, and every sentence that refuses a folder."""

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.preprocess.sources import build_key, read_source


def make(root: Path, *files: str) -> Path:
    """Empty files: nothing is decoded here."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def read(root: Path, val_fraction: float | None = None, seed: int = 0):
    return read_source(root, val_fraction=val_fraction, seed=seed)


SPLIT_FOLDERS = ("train/b/1.JPEG", "train/a/2.JPEG", "train/a/1.JPEG", "val/a/9.JPEG", "val/b/8.JPEG")


def test_split_folders_give_labels_in_order_of_class_name_and_pictures_in_order_of_key(tmp_path):
    source = read(make(tmp_path, *SPLIT_FOLDERS, "train/a/.hidden", "train/.DS_Store", "train/a/folder/x.JPEG"))
    assert source.layout == "split folders"
    assert [(info.id, info.name) for info in source.classes] == [("a", "a"), ("b", "b")]
    found = {split: [(image.key, image.label) for image in images] for split, images in source.splits.items()}
    assert found == {"train": [("a/1", 0), ("a/2", 0), ("b/1", 1)], "val": [("a/9", 0), ("b/8", 1)]}
    assert source.splits["train"][0].path == tmp_path / "train" / "a" / "1.JPEG"


def test_a_test_folder_becomes_a_third_split(tmp_path):
    source = read(make(tmp_path, *SPLIT_FOLDERS, "test/a/1.JPEG", "test/b/1.JPEG"))
    assert list(source.splits) == ["train", "val", "test"]
    assert [image.key for image in source.splits["test"]] == ["a/1", "b/1"]


@pytest.mark.parametrize("layout", ["class folders", "split folders"])
def test_held_out_pictures_are_a_share_of_the_training_pictures_chosen_by_the_seed(tmp_path, layout):
    prefix = "" if layout == "class folders" else "train/"
    names = [f"{name}/{number}" for name in "abc" for number in range(20)]
    make(tmp_path, *(f"{prefix}{name}.JPEG" for name in names))
    source = read(tmp_path, 0.2)
    assert source.layout == layout
    train, val = ({image.key for image in source.splits[split]} for split in ("train", "val"))
    assert len(val) == 12
    assert train | val == set(names)
    assert not train & val
    assert read(tmp_path, 0.2) == source
    assert {image.key for image in read(tmp_path, 0.2, seed=1).splits["val"]} != val


def test_keys_keep_letters_of_any_script_and_lose_dots_and_blanks():
    assert build_key("n01440764", "n01440764_10026") == "n01440764/n01440764_10026"
    assert build_key("great white", "a.b c(1)") == "great_white/a_b_c_1_"
    assert build_key("Vögel", "écureuil-粒") == "Vögel/écureuil-粒"
    assert "/" not in build_key("a", "..\\..\\b").removeprefix("a/")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (("a/x.jpg", "a/x.png"), r"a/x\.png and .*a/x\.jpg would both be stored as a/x: rename one of them"),
        (("a/x y.jpg", "a/x.y.jpg"), "would both be stored as a/x_y: rename one of them"),
        (("a b/x.jpg", "a_b/x.jpg"), "would both be stored as a_b/x: rename one of them"),
        ((f"a/{'é' * 49}.jpg",), "has 98 bytes, but tar files hold names of 96: shorten it"),
        ((f"{'c' * 156}/x.jpg",), "has 156 bytes, but tar files hold names of 155: shorten it"),
    ],
)
def test_names_that_cannot_be_keys_are_refused(tmp_path, files, sentence):
    with pytest.raises(InputError, match=sentence):
        read(make(tmp_path, *files), 0.5)


@pytest.mark.parametrize(
    ("files", "val_fraction", "sentence"),
    [
        ((), 0.1, "has 0 files and no class folders: expected CLASS/NAME.JPEG, one folder for each class"),
        (("1.JPEG", "2.JPEG"), 0.1, "has 2 files and no class folders: expected CLASS/NAME.JPEG"),
        (("train/a/1.JPEG", "val/1.JPEG"), None, "val has 1 files and no class folders: expected CLASS/NAME.JPEG"),
        (
            ("train/a/1.JPEG", "train/c/1.JPEG", "val/a/1.JPEG"),
            None,
            "1 classes, c first, are in only one of train/ and",
        ),
        (("train/a/1.JPEG", "val/b/1.JPEG", "val/a/1.JPEG"), None, "1 classes, b first, .* train/ and val/: give both"),
        (("val/a/1.JPEG",), None, "has val/ but no train/: add it or pass the folder of class folders"),
        (("val/a/1.JPEG", "test/a/1.JPEG"), 0.1, "has val/, test/ but no train/"),
        (("train/a/1.JPEG", "val/a/1.JPEG"), 0.1, "--val-fraction 0.1 was given but .*/val exists: leave out one"),
        (("train/a/1.JPEG",), None, "has no val/: pass --val-fraction 0.1 to hold out a tenth"),
        (("a/1.JPEG",), None, "has no val/: pass --val-fraction 0.1 to hold out a tenth"),
        (("a/.keep", "b/.keep"), 0.1, "has 2 class folders and not one picture: expected CLASS/NAME.JPEG"),
        (("train/a/1.JPEG", "val/a/.keep"), None, "val has 1 class folders and not one picture"),
        (("a/1.JPEG", "a/2.JPEG"), 0.1, "0.1 of 2 pictures leaves 0 for val and 2 for train: choose one that leaves"),
        (("a/1.JPEG", "a/2.JPEG"), 1.0, "1.0 of 2 pictures leaves 2 for val and 0 for train: choose one that leaves"),
        (("a/1.JPEG", "a/2.JPEG"), -0.5, "-0.5 of 2 pictures leaves -1 for val and 3 for train"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_what_was_found_and_what_to_do(
    tmp_path, files, val_fraction, sentence
):
    with pytest.raises(InputError, match=sentence):
        read(make(tmp_path, *files), val_fraction)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a directory: pass the folder that holds the class folders"):
        read(tmp_path / "nowhere")
