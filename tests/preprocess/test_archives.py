"""Official archives: what is found in them without unpacking, and every way in which they can be wrong."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from official import SmallImageNet, build_imagenet, pack_tar, rewrite_tar, write_tar

from pipeline import paper
from pipeline.errors import InputError
from pipeline.preprocess.content import ContentReader
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


def count_as_official(monkeypatch: pytest.MonkeyPatch, net: SmallImageNet) -> None:
    """Let the counts of `net` be those of its challenge."""
    counts = {split: len(pictures) for split, pictures in net.pictures.items()}
    monkeypatch.setitem(paper.NUM_IMAGES, f"ILSVRC-{net.year}", counts)


@pytest.mark.parametrize("year", [2010, 2012])
@pytest.mark.parametrize("val_folder", ["", "val/", "./"])
def test_every_picture_is_found_under_its_class_and_read_in_place(tmp_path, year, val_folder):
    net = build_imagenet(year=year)
    root = net.write_archives(tmp_path, val_folder=val_folder)
    source = read(root)
    assert source.layout == f"ilsvrc{year}"
    assert [info.id for info in source.classes] == sorted(net.numbers)
    assert [info.name for info in source.classes] == [f"{class_id} thing, object" for class_id in sorted(net.numbers)]
    assert list(source.splits) == list(net.pictures)
    assert source.ignored == ()
    with ContentReader(root, source.containers) as reader:
        for split, rows in source.splits.items():
            found = {(row["key"].decode(), source.classes[row["label"]].id): reader.read(row) for row in rows}
            expected = {
                (f"{class_id}/{name.removesuffix('.JPEG')}", class_id): content
                for name, class_id, content in net.pictures[split]
            }
            assert found == expected
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == []


def test_the_whole_of_a_challenge_is_proved_complete(root, net, monkeypatch):
    count_as_official(monkeypatch, net)
    assert read(root, allow_partial=False).complete
    assert read(root, allow_partial=True).complete
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"has 14/8 pictures \(train/val\), expected 1,281,167/50,000: copy it again"):
        read(root, allow_partial=False)
    assert not read(root, allow_partial=True).complete


def test_the_unpacked_kit_serves_as_well(root, net):
    packed = read(root)
    (root / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    net.write_kit(root, unpacked=True)
    unpacked = read(root)
    assert unpacked.classes == packed.classes
    assert all(np.array_equal(unpacked.splits[split], packed.splits[split]) for split in ("train", "val"))


def rename(old: str, new: str):
    def change(members):
        members[new] = members.pop(old)

    return change


def add(name: str, content: bytes = b"x"):
    return lambda members: members.update({name: content})


def change_class(class_id: str, change):
    """Change the pictures of one class inside the tar of class tars."""

    def change_outer(members):
        with tarfile.open(fileobj=io.BytesIO(members[f"{class_id}.tar"])) as inner:
            pictures = {member.name: inner.extractfile(member).read() for member in inner}
        change(pictures)
        members[f"{class_id}.tar"] = pack_tar(pictures)

    return change_outer


FIRST, SECOND = "n01440764", "n01440767"


@pytest.mark.parametrize(
    ("archive", "change", "sentence"),
    [
        (TRAIN, rename(f"{FIRST}.tar", "tench.tar"), "member tench.tar, is not named by a WordNet id like n0144"),
        (TRAIN, rename(f"{FIRST}.tar", "n99999999.tar"), "n99999999.tar, holds n01440764_.*begin with n99999999_"),
        (TRAIN, add(f"again/{FIRST}.tar", pack_tar({f"{FIRST}_1.JPEG": b"x"})), "again/n01440764.tar, is there twice"),
        (TRAIN, add("n00000001.tar", pack_tar({"n00000001_1.JPEG": b"x"})), "1 classes, n00000001 first, that .* not"),
        (TRAIN, add("n00000001.tar", b""), r"member n00000001.tar, is empty \(0 bytes\): copy or download it again"),
        (TRAIN, add("n00000001.tar", gzip.compress(b"x" * 999)), r"member n00000001.tar, is compressed \(gzip\)"),
        (TRAIN, add("n00000001.tar", b"<html>" * 200), "n00000001.tar, is no tar file, or damaged at byte [1-9]"),
        (TRAIN, change_class(FIRST, add(f"{FIRST}_5.JPEG")), "1 classes do not .* n01440764 first with 4 instead of 3"),
        (TRAIN, change_class(FIRST, add(f"{SECOND}_5.JPEG")), "n01440767_5.JPEG, whose name should begin with n014407"),
        (TRAIN, change_class(FIRST, add(f"deep/{FIRST}_7.JPEG")), "n01440764 first with 4 instead of 3"),
        (VAL, add("ILSVRC2012_val_00000009.JPEG"), "holds 1 pictures of ILSVRC2012_val, number 9 first, that"),
        (VAL, add("x/ILSVRC2012_val_00000003.JPEG"), "holds picture 3 of ILSVRC2012_val more than once"),
        (VAL, add("ILSVRC2012_val_00000003.jpg"), "holds picture 3 of ILSVRC2012_val more than once"),
        (VAL, add("ILSVRC2010_val_00000003.JPEG"), "holds ILSVRC2010_val_00000003, which is no picture of ILS"),
        (VAL, add("ILSVRC2012_test_00000003.JPEG"), "ILSVRC2012_test_00000003, which is no picture of ILSVRC2"),
    ],
)  # fmt: skip
def test_wrong_labels_and_damage_are_refused_even_where_a_part_is_enough(root, archive, change, sentence):
    rewrite_tar(root / archive, change)
    with pytest.raises(InputError, match=sentence):
        read(root, allow_partial=True)


@pytest.mark.parametrize(
    ("archive", "change", "sentence", "left"),
    [
        (
            TRAIN,
            lambda members: members.pop(f"{FIRST}.tar"),
            "lacks 1 of the 4 classes that .*t12.tar.gz describes, n01440764 first: copy it again, or accept",
            (11, 6),
        ),
        (
            TRAIN,
            change_class(SECOND, lambda pictures: pictures.popitem()),
            "1 classes do not have as many training pictures as .* n01440767 first with 3 instead of 4: copy",
            (13, 8),
        ),
        (
            TRAIN,
            lambda members: members.update({f"{FIRST}.tar": pack_tar({})}),
            "lacks 1 of the 4 classes .* n01440764 first",
            (11, 6),
        ),
        (
            VAL,
            lambda members: members.pop("ILSVRC2012_val_00000005.JPEG"),
            "lacks 1 of 8 pictures of ILSVRC2012_val, number 5 first: copy it again, or accept it with --allow-partial",
            (14, 7),
        ),
    ],
)
def test_fewer_classes_or_pictures_are_accepted_only_by_name(root, net, monkeypatch, archive, change, sentence, left):
    count_as_official(monkeypatch, net)
    rewrite_tar(root / archive, change)
    with pytest.raises(InputError, match=sentence):
        read(root, allow_partial=False)
    source = read(root, allow_partial=True)
    assert not source.complete
    assert tuple(len(rows) for rows in source.splits.values()) == left
    truth = dict(enumerate(net.truth("val"), 1))
    for row in source.splits["val"]:  # gaps shift no label
        number = int(row["name"][-13:-5])
        assert net.numbers[source.classes[row["label"]].id] == truth[number]


def test_pictures_of_a_class_that_is_not_trained_are_left_out_with_a_line_each(root):
    rewrite_tar(root / TRAIN, lambda members: [members.pop(f"{name}.tar") for name in (FIRST, SECOND)])
    entries = read(root).ignored
    assert [(entry.split, entry.file, entry.action) for entry in entries] == [
        ("val", FIRST, "ignored"),
        ("val", SECOND, "ignored"),
    ]
    assert entries[0].detail == "2 pictures left out: the class has no training pictures"


def test_what_is_no_picture_goes_to_the_ledger_one_line_for_each_kind(root):
    with tarfile.open(root / VAL, "a") as archive:
        for number in range(3):
            link = tarfile.TarInfo(f"link_{number}.JPEG")
            link.type, link.linkname = tarfile.SYMTYPE, "ILSVRC2012_val_00000001.JPEG"
            archive.addfile(link)
        hard = tarfile.TarInfo("hard.JPEG")
        hard.type, hard.linkname = tarfile.LNKTYPE, "ILSVRC2012_val_00000001.JPEG"
        archive.addfile(hard)
        pipe = tarfile.TarInfo("pipe")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
        for name in ("._ILSVRC2012_val_00000001.JPEG", ".DS_Store", "__MACOSX/x.JPEG"):
            archive.addfile(tarfile.TarInfo(name))
        archive.addfile(tarfile.TarInfo("readme.txt"))
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    rewrite_tar(root / TRAIN, add("sums.md5"))
    (root / "ILSVRC2012_img_test.tar").touch()
    source = read(root)
    assert {(entry.split, entry.file, entry.action, entry.detail) for entry in source.ignored} == {
        ("train", TRAIN, "ignored", "1 members that are no class archives, sums.md5 first"),
        ("train", ".", "ignored", "1 archives without labelled pictures of ILSVRC2012, ILSVRC2012_img_test.tar first"),
        ("val", VAL, "ignored", "4 links, link_0.JPEG first"),
        ("val", VAL, "ignored", "1 special files, pipe first"),
        ("val", VAL, "ignored", "1 files not named like ILSVRC2012_val_00000001.JPEG, readme.txt first"),
    }
    assert len(source.splits["val"]) == 8


def test_sparse_members_are_left_out(root, tmp_path):
    sparse = tarfile.TarInfo("ILSVRC2012_val_00000001.JPEG")
    sparse.type = tarfile.GNUTYPE_SPARSE
    rewrite_tar(root / VAL, lambda members: members.pop("ILSVRC2012_val_00000001.JPEG"))
    with tarfile.open(root / VAL, "a") as archive:
        archive.addfile(sparse)
    source = read(root)
    assert [entry.detail for entry in source.ignored] == ["1 sparse files, ILSVRC2012_val_00000001.JPEG first"]


def test_names_longer_than_a_header_holds_are_read_in_every_tar_format(root, net):
    long = "folder_" * 20
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        with tarfile.open(root / VAL, "w", format=kind) as archive:
            for name, _, content in net.pictures["val"]:
                member = tarfile.TarInfo(f"{long}/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        source = read(root)
        with ContentReader(root, source.containers) as reader:
            found = {row["name"].decode().rpartition("/")[2]: reader.read(row) for row in source.splits["val"]}
        assert found == {name: content for name, _, content in net.pictures["val"]}


@pytest.mark.parametrize(
    ("missing", "sentence", "enough"),
    [
        ("devkit", r"has no development kit of ILSVRC2012, .*: put ILSVRC2012_devkit_t12.tar.gz there", False),
        ("val", r"ILSVRC2012_img_val.tar does not exist: put it there, or accept it with --allow-partial", True),
    ],
)
def test_missing_files_are_named(root, missing, sentence, enough):
    next(root.glob(f"*{missing}*")).unlink()
    with pytest.raises(InputError, match=sentence):
        read(root, allow_partial=False)
    if enough:
        source = read_source(root, layout=None, val_fraction=0.25, seed=0, allow_partial=True)
        assert [len(rows) for rows in source.splits.values()] == [10, 4]
        assert not source.complete


def test_an_unpacked_archive_of_the_same_name_is_refused(root):
    (root / TRAIN).rename(root / "x")
    (root / TRAIN).mkdir()
    with pytest.raises(
        InputError, match=r"train.tar is a folder: put the archive itself there, or pass --layout folders"
    ):
        read(root)


def test_test_pictures_of_2010_need_their_ground_truth(tmp_path):
    root = build_imagenet(year=2010).write_archives(tmp_path)
    (root / "ILSVRC2010_test_ground_truth.txt").unlink()
    with pytest.raises(
        InputError, match=r"has no test ground truth of ILSVRC2010: put it beside ILSVRC2010_images_test.tar"
    ):
        read(root)
    (root / "ILSVRC2010_images_test.tar").unlink()
    assert list(read(root).splits) == ["train", "val"]


def test_patched_pictures_of_2010_take_the_place_of_the_blank_ones(tmp_path):
    net = build_imagenet(year=2010)
    root = net.write_archives(tmp_path)
    before = read(root)
    names = {split: net.pictures[split][1][0] for split in ("train", "val", "test")}
    patches = {f"patch_images/{split}/{name}": f"new {split}".encode() for split, name in names.items()}
    write_tar(root / "patch_images.tar", patches | {"patch_images/val/ILSVRC2010_val_00000099.JPEG": b"of nothing"})
    source = read(root)
    with ContentReader(root, source.containers) as reader:
        for split, name in names.items():
            contents = {row["name"].decode(): reader.read(row) for row in source.splits[split]}
            expected = {old: content for old, _, content in net.pictures[split]} | {name: f"new {split}".encode()}
            assert contents == expected
    assert all(np.array_equal(source.splits[split]["key"], before.splits[split]["key"]) for split in names)
    assert [(entry.split, entry.detail) for entry in source.ignored] == [
        ("test", f"1 pictures replaced by those of patch_images.tar, patch_images/test/{names['test']} first"),
        ("train", f"1 pictures replaced by those of patch_images.tar, patch_images/train/{names['train']} first"),
        ("val", f"1 pictures replaced by those of patch_images.tar, patch_images/val/{names['val']} first"),
        ("val", "1 pictures that are in no archive, patch_images/val/ILSVRC2010_val_00000099.JPEG first"),
    ]
