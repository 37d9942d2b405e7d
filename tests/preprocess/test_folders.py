"""Class folders on disk and in one tar: what counts as a picture, what it is called, and what is refused."""

import io
import itertools
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from official import build_imagenet, list_keys, write_files, write_tar

from pipeline.errors import InputError
from pipeline.preprocess.content import ContentReader
from pipeline.preprocess.sources import Source, read_source


def read(
    root: Path, val_fraction: float | None = None, *, seed: int = 0, layout=None, allow_partial: bool = False
) -> Source:
    return read_source(root, layout=layout, val_fraction=val_fraction, seed=seed, allow_partial=allow_partial)


SPLIT_FOLDERS = ("train/b/1.JPEG", "train/a/2.JPEG", "train/a/1.JPEG", "val/a/9.JPEG", "val/b/8.JPEG")


def test_what_is_no_picture_is_counted_by_folder_and_kind_and_what_is_hidden_is_not(tmp_path):
    write_files(
        tmp_path, *SPLIT_FOLDERS, "train/a/.hidden", "train/.DS_Store", "train/__MACOSX/a/._1.JPEG", "readme.txt"
    )
    write_files(tmp_path, "train/a/deep/x.JPEG", "train/a/deeper/x.JPEG", "val/list.txt", "val/sums.md5")
    (tmp_path / "val" / "a" / "broken.JPEG").symlink_to("nowhere")
    os.mkfifo(tmp_path / "val" / "b" / "pipe")
    source = read(tmp_path)
    assert len(source.splits["train"]) == 3
    assert [(entry.split, entry.key, entry.file, entry.action, entry.detail) for entry in source.ignored] == [
        ("train", "", "train/a", "ignored", "2 nested folders, deep first"),
        ("val", "", "val", "ignored", "2 files outside of class folders, list.txt first"),
        ("val", "", "val/a", "ignored", "1 broken links or special files, broken.JPEG first"),
        ("val", "", "val/b", "ignored", "1 broken links or special files, pipe first"),
    ]


def test_links_to_pictures_folders_and_archives_are_followed(tmp_path):
    real = write_files(tmp_path / "real", *SPLIT_FOLDERS)
    linked = tmp_path / "linked"
    (linked / "train" / "a").mkdir(parents=True)
    for name in ("1.JPEG", "2.JPEG"):
        (linked / "train" / "a" / name).symlink_to(real / "train" / "a" / name)
    (linked / "train" / "b").symlink_to(real / "train" / "b")
    (linked / "val").symlink_to(real / "val")
    assert list_keys(read(linked)) == list_keys(read(real))
    assert read(linked).ignored == ()
    archives = build_imagenet().write_archives(tmp_path / "archives")
    (tmp_path / "links").mkdir()
    for path in archives.iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    assert list_keys(read(tmp_path / "links", allow_partial=True)) == list_keys(read(archives, allow_partial=True))


def test_keys_keep_letters_of_any_script_and_lose_dots_and_blanks(tmp_path):
    write_files(tmp_path, "train/great white/a.b c(1).JPEG", "train/Vögel/écureuil-粒.JPEG", "train/x..y/a\\..\\b.png")
    write_files(tmp_path, "train/great white/no suffix", "val/great white/1", "val/Vögel/1", "val/x..y/1")
    assert [key for key, _ in list_keys(read(tmp_path))["train"]] == [
        "Vögel/écureuil-粒",
        "great_white/a_b_c_1_",
        "great_white/no_suffix",
        "x__y/a____b",
    ]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (("a/x.jpg", "a/x.png"), r"a/x\.(png|jpg) and a/x\.(jpg|png) would both be stored as a/x: rename one of them"),
        (("a/x.JPEG", "a/x.jpg"), "would both be stored as a/x: rename one of them"),
        (("a/x y.jpg", "a/x.y.jpg"), "would both be stored as a/x_y: rename one of them"),
        (("a b/x.jpg", "a_b/y.jpg"), "classes 'a b' and 'a_b' would both be stored as a_b/: rename one of them"),
        ((f"a/{'é' * 49}.jpg",), "has 98 bytes, but tar files hold names of 96: shorten it"),
        ((f"{'c' * 156}/x.jpg",), "has 156 bytes, but tar files hold names of 155: shorten it"),
    ],
)
def test_names_that_cannot_be_keys_are_refused(tmp_path, files, sentence):
    write_files(tmp_path / "folders", *files, "z/1", "z/2")
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / "folders", 0.5)
    write_tar(tmp_path / "x.tar", dict.fromkeys((*files, "z/1", "z/2"), b"x"))
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / "x.tar", 0.5)


@pytest.mark.parametrize("name", [b"train/a/\xff.JPEG", b"train/\xff/x.JPEG", b"val/\xe9/x.JPEG"])
def test_names_that_are_not_utf8_are_refused_and_shown(tmp_path, name):
    write_files(tmp_path / "root", *SPLIT_FOLDERS)
    path = tmp_path / "root" / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(InputError, match=r"\\udc(ff|e9).*: the name is not UTF-8: rename it"):
        read(tmp_path / "root", allow_partial=True)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "root", ".")
    with pytest.raises(InputError, match=r"\\udc(ff|e9).*: the name is not UTF-8: rename it"):
        read(tmp_path / "x.tar", allow_partial=True)


def test_a_flat_val_without_ground_truth_is_refused_with_both_ways_to_mend_it(tmp_path):
    write_files(tmp_path, "train/a/1.JPEG", "val/1.JPEG", "val/2.JPEG")
    advice = f"sort them into val/CLASS/NAME.JPEG, or put ILSVRC2012_devkit_t12.tar.gz or .*csv into {tmp_path}"
    with pytest.raises(InputError, match=f"val has 2 files and no class folders, .* what they show: {advice}"):
        read(tmp_path, allow_partial=True)


@pytest.mark.parametrize("kind", ["kit", "kaggle"])
def test_class_folders_are_held_to_the_ground_truth_beside_them(tmp_path, kind):
    net = build_imagenet()
    root = net.write_folders(tmp_path / "root")
    if kind == "kit":
        net.write_kit(root)
    else:
        shutil.copy(net.write_kaggle(tmp_path / "kaggle") / "LOC_val_solution.csv", root)
    assert len(read(root, allow_partial=True).splits["val"]) == 8
    (name, right, _), (_, wrong, _) = next(
        pair for pair in itertools.pairwise(net.pictures["val"]) if pair[0][1] != pair[1][1]
    )
    (root / "val" / right / name).rename(root / "val" / wrong / name)
    with pytest.raises(
        InputError, match=f"val/{wrong} holds {name}, but .* says that it shows {right}: sort the pictures"
    ):
        read(root, allow_partial=True)


def test_kaggles_flat_test_pictures_are_left_out_with_one_line(tmp_path):
    source = read(build_imagenet().write_kaggle(tmp_path), allow_partial=True)
    assert list(source.splits) == ["train", "val"]
    assert [(entry.split, entry.file, entry.detail) for entry in source.ignored] == [
        ("test", "ILSVRC/Data/CLS-LOC/test", "1 pictures without labels, ILSVRC2012_test_00000001.JPEG first")
    ]


def test_kits_of_two_years_beside_the_pictures_are_refused(tmp_path):
    net = build_imagenet()
    root = net.write_folders(tmp_path)
    net.write_kit(root)
    build_imagenet(year=2010).write_kit(root)
    with pytest.raises(InputError, match="has the development kits of two years: keep that of these pictures"):
        read(root)


FLAT = {f"n0144076{label}_{name}.JPEG": name.encode() for label, name in enumerate(("tench", "shark", "ray"))}


@pytest.mark.parametrize(
    ("members", "keys"),
    [
        ({"a/1": b"x", "a/2": b"x", "b/1": b"x"}, ["a/1", "a/2", "b/1"]),
        ({"./a/1": b"x", "./a/2": b"x", "./b/1": b"x"}, ["a/1", "a/2", "b/1"]),
        ({"pictures/x/a/1": b"x", "pictures/x/a/2": b"x", "pictures/x/b/1": b"x"}, ["a/1", "a/2", "b/1"]),
        ({"train/a/1": b"x", "train/a/2": b"x", "train/b/1": b"x"}, ["a/1", "a/2", "b/1"]),
        ({"a/1": b"x", "a/2": b"x", "b/1": b"x", "README": b"x", "a/deep/1": b"x"}, ["a/1", "a/2", "b/1"]),
        ({f"{name}/{number}": b"x" for name in "ab" for number in "12"} | {f"a/{name}/1": b"x" for name in "uvw"},
            ["a/1", "a/2", "b/1", "b/2"]),
        (FLAT, [f"{name[:9]}/{name.removesuffix('.JPEG')}" for name in FLAT]),
        (FLAT | {"LICENSE": b"x"}, [f"{name[:9]}/{name.removesuffix('.JPEG')}" for name in FLAT]),
        ({f"some/folder/{name}": b"x" for name in FLAT}, [f"{name[:9]}/{name.removesuffix('.JPEG')}" for name in FLAT]),
    ],
)  # fmt: skip
def test_class_folders_and_named_pictures_are_found_in_one_tar(tmp_path, members, keys):
    write_tar(tmp_path / "x.tar", members)
    source = read(tmp_path / "x.tar", 0.34, allow_partial=True)
    found = sorted(key for keys in list_keys(source).values() for key, _ in keys)
    assert found == keys
    assert sum(int(entry.detail.split()[0]) for entry in source.ignored) == len(members) - len(keys)
    reader = ContentReader(tmp_path / "x.tar", source.containers)
    for rows in source.splits.values():
        assert [reader.read(row) for row in rows] == [members[row["name"].decode()] for row in rows]


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({}, "holds no pictures: expected CLASS/NAME.JPEG"),
        (
            {"1.JPEG": b"x", "2.JPEG": b"x"},
            "holds 2 files in one folder, 1.JPEG first: expected CLASS/NAME.JPEG or names",
        ),
        ({"A/a/1": b"x", "B/b/1": b"x"}, "holds class folders below A and B: expected train/CLASS/NAME.JPEG and"),
        (
            {"A/train/a/1": b"x", "B/train/a/1": b"x"},
            "holds class folders below A and B: expected train/CLASS/NAME.JPEG",
        ),
        ({"val/a/1": b"x", "val/b/1": b"x"}, "holds class folders below val: expected train/CLASS/NAME.JPEG"),
        ({"train/a/1": b"x", "val/1": b"x"}, "holds 1 files in val/, and nothing says what they show: sort them into"),
        ({"train/a/1": b"x", "val/b/1": b"x"}, "2 classes, a first, are in only one of train and val"),
    ],
)
def test_a_tar_that_does_not_fit_is_refused(tmp_path, members, sentence):
    write_tar(tmp_path / "x.tar", members)
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / "x.tar", layout="folders")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_to_be_unpacked_first(tmp_path, kind):
    for name in (f"x.tar.{kind}", "x.tar"):
        with tarfile.open(tmp_path / name, f"w:{kind}") as archive:
            archive.addfile(tarfile.TarInfo("a/1"), io.BytesIO())
        with pytest.raises(
            InputError, match=f"{name} is compressed .*, so no picture can be reached at random: unpack it"
        ):
            read(tmp_path / name)


def test_empty_class_folders_of_a_tar_count_as_on_disk(tmp_path):
    write_files(tmp_path / "root", *SPLIT_FOLDERS)
    (tmp_path / "root" / "train" / "c").mkdir()
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "root", "root")
    for root in (tmp_path / "root", tmp_path / "x.tar"):
        with pytest.raises(InputError, match="1 classes of train, c first, have no picture: fill or remove them"):
            read(root)
