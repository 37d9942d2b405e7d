"""The label guard on its own: numbers, classes, counts."""

from pathlib import Path

import pytest

from pipeline import paper
from pipeline.errors import InputError
from pipeline.preprocess.devkit import GroundTruth
from pipeline.preprocess.labels import (
    check_counts,
    check_sorted_by_number,
    find_official_counts,
    label_by_number,
    settle_classes,
)
from pipeline.preprocess.listing import IgnoredFiles, Listing, RowCollector

FOLDER = Path("/pictures/val")


def build_listing(**counts: int) -> Listing:
    """So many pictures of each class, in the order given."""
    collector = RowCollector()
    for name, count in counts.items():
        collector.add_group(name)
        for number in range(count):
            collector.add(name, f"{name}_{number}.JPEG", container=0, offset=0, size=1, stamp=0)
    return collector.build()


def build_flat(*names: str) -> Listing:
    collector = RowCollector()
    for name in names:
        collector.add("", name, container=0, offset=0, size=1, stamp=0)
    return collector.build()


def count(listing: Listing) -> dict[str, int]:
    return dict(zip(listing.groups, listing.count().tolist(), strict=True))


TRUTH = GroundTruth(origin="truth.txt", prefix="ILSVRC2012_val", class_ids={1: "n3", 2: "n1", 3: "n3"})


def label(*names: str, allow_partial: bool = False) -> tuple[dict[str, str], IgnoredFiles]:
    ignored = IgnoredFiles()
    listing = label_by_number(
        build_flat(*names).rows, TRUTH, split="val", path=FOLDER, ignored=ignored, allow_partial=allow_partial
    )
    return {row["name"].decode(): listing.groups[row["label"]] for row in listing.rows}, ignored


def test_a_picture_is_labelled_by_the_number_in_its_name_wherever_it_stands():
    names = [f"x/ILSVRC2012_val_0000000{number}.JPEG" for number in (3, 1, 2)]
    found, ignored = label(*names, "ILSVRC2012_val_1.JPEG", "readme.txt")
    assert found == {names[0]: "n3", names[1]: "n3", names[2]: "n1"}
    assert [entry.detail for entry in ignored.build_entries()] == [
        "2 files not named like ILSVRC2012_val_00000001.JPEG, ILSVRC2012_val_1.JPEG first"
    ]


@pytest.mark.parametrize(
    ("numbers", "sentence", "is_enough"),
    [
        ((1, 3), "/pictures/val lacks 1 of 3 pictures of ILSVRC2012_val, number 2 first: copy it again, or acc", True),
        ((1, 2, 3, 4), "holds 1 pictures of ILSVRC2012_val, number 4 first, that truth.txt has no line for", False),
        ((0, 1, 2, 3), "number 0 first, that truth.txt has no line for", False),
        ((1, 2, 2, 3), "holds picture 2 of ILSVRC2012_val more than once: keep the right one", False),
    ],
)  # fmt: skip
def test_gaps_doubles_and_strangers_among_the_numbers_are_named(numbers, sentence, is_enough):
    names = [f"{place}/ILSVRC2012_val_{number:08d}.JPEG" for place, number in enumerate(numbers)]
    with pytest.raises(InputError, match=sentence):
        label(*names)
    if is_enough:
        found, _ = label(*names, allow_partial=True)
        assert found == {names[0]: "n3", names[1]: "n3"}
    else:
        with pytest.raises(InputError, match=sentence):
            label(*names, allow_partial=True)


def test_a_picture_in_another_class_folder_than_the_truth_says_is_refused():
    def build(*pairs: tuple[str, str]) -> Listing:
        collector = RowCollector()
        for group, name in pairs:
            collector.add(group, name, container=0, offset=0, size=1, stamp=0)
        return collector.build()

    right = (("n3", "ILSVRC2012_val_00000001.JPEG"), ("n1", "ILSVRC2012_val_00000002.JPEG"), ("n1", "mine.JPEG"))
    check_sorted_by_number(build(*right), TRUTH, FOLDER)
    wrong = (*right, ("n1", "ILSVRC2012_val_00000003.JPEG"))
    with pytest.raises(
        InputError, match=r"val/n1 holds ILSVRC2012_val_00000003.JPEG, but truth.txt says that it shows n3"
    ):
        check_sorted_by_number(build(*wrong), TRUTH, FOLDER)


def test_classes_are_numbered_in_order_of_their_ids_in_every_split():
    splits = {"train": build_listing(c=1, a=2, b=3), "val": build_listing(b=4, c=5, a=6)}
    settled, entries = settle_classes(splits, where="/pictures", allow_partial=False)
    assert entries == ()
    assert count(settled["train"]) == {"a": 2, "b": 3, "c": 1}
    assert count(settled["val"]) == {"a": 6, "b": 4, "c": 5}
    assert settled["train"].groups == settled["val"].groups == ("a", "b", "c")
    for listing in settled.values():
        assert all(row["name"].decode()[0] == listing.groups[row["label"]] for row in listing.rows)


@pytest.mark.parametrize(
    ("train", "val", "sentence", "left", "entries"),
    [
        (
            {"a": 1, "b": 0},
            {"a": 1, "b": 2},
            "1 classes of train, b first, have no picture: fill or remove them, or accept it with --allow-partial",
            {"train": {"a": 1}, "val": {"a": 1}},
            [
                ("train", "b", "ignored", "0 pictures left out: the class has no training pictures"),
                ("val", "b", "ignored", "2 pictures left out: the class has no training pictures"),
            ],
        ),
        (
            {"a": 1, "b": 1},
            {"a": 1},
            "1 classes, b first, are in only one of train and val: give both the same class folders, or accept it",
            {"train": {"a": 1, "b": 1}, "val": {"a": 1, "b": 0}},
            [("val", "b", "kept", "the class has no val pictures")],
        ),
        (
            {"a": 1, "b": 1},
            {"a": 1, "b": 0},
            "1 classes of val, b first, have no picture: fill or remove them, or accept it with --allow-partial",
            {"train": {"a": 1, "b": 1}, "val": {"a": 1, "b": 0}},
            [("val", "b", "kept", "the class has no val pictures")],
        ),
        (
            {"b": 1, "c": 2},
            {"a": 3, "b": 1},
            "2 classes, a first, are in only one of train and val",
            {"train": {"b": 1, "c": 2}, "val": {"b": 1, "c": 0}},
            [
                ("val", "a", "ignored", "3 pictures left out: the class has no training pictures"),
                ("val", "c", "kept", "the class has no val pictures"),
            ],
        ),
    ],
)
def test_classes_that_are_not_in_all_splits_are_accepted_only_by_name(train, val, sentence, left, entries):
    splits = {"train": build_listing(**train), "val": build_listing(**val)}
    with pytest.raises(InputError, match=sentence):
        settle_classes(splits, where="/pictures", allow_partial=False)
    settled, found = settle_classes(splits, where="/pictures", allow_partial=True)
    assert {split: count(listing) for split, listing in settled.items()} == left
    assert [(entry.split, entry.file, entry.action, entry.detail) for entry in found] == entries
    assert all(entry.key == "" for entry in found)


@pytest.mark.parametrize(
    ("train", "val", "sentence"),
    [
        ({"a": 0}, {"a": 1}, "train has 1 classes and not one picture: expected CLASS/NAME"),
        ({"a": 1}, {"a": 0, "b": 0}, "val has 2 classes and not one picture"),
        ({"a": 1}, {"b": 1}, "no picture of val is of a class that has training pictures"),
    ],
)
def test_a_split_without_pictures_is_never_accepted(train, val, sentence):
    splits = {"train": build_listing(**train), "val": build_listing(**val)}
    with pytest.raises(InputError, match=sentence):
        settle_classes(splits, where="/pictures", allow_partial=True)


def test_as_many_wordnet_ids_as_a_challenge_has_are_held_to_its_counts():
    ids = [f"n{number:08d}" for number in range(1000)]
    assert find_official_counts(ids) == (paper.NUM_IMAGES["ILSVRC-2010"], paper.NUM_IMAGES["ILSVRC-2012"])
    assert find_official_counts(ids[:999]) == ()
    assert find_official_counts([*ids, "n00001000"]) == ()
    assert find_official_counts([*ids[:999], "tench"]) == ()


OFFICIAL = ({"train": 7, "val": 4, "test": 6}, {"train": 5, "val": 4})


@pytest.mark.parametrize(
    ("train", "val", "test", "is_complete"),
    [
        ({"a": 2, "b": 3}, {"a": 2, "b": 2}, None, True),
        ({"a": 1, "b": 6}, {"a": 2, "b": 2}, {"a": 3, "b": 3}, True),
        ({"a": 1, "b": 6}, {"a": 2, "b": 2}, None, False),
        ({"a": 1, "b": 6}, None, None, False),
    ],
)
def test_a_source_is_complete_if_all_counts_are_those_of_one_data_set(train, val, test, is_complete):
    splits = {"train": train, "val": val, "test": test}
    listings = {split: build_listing(**counts) for split, counts in splits.items() if counts}
    assert check_counts(listings, OFFICIAL, where="/pictures", allow_partial=False) is is_complete


@pytest.mark.parametrize(
    ("train", "val"),
    [({"a": 2, "b": 2}, {"a": 2, "b": 2}), ({"a": 3, "b": 3}, {"a": 2, "b": 2}), ({"a": 2, "b": 3}, {"a": 2, "b": 1})],
)
def test_other_counts_are_accepted_only_by_name(train, val):
    splits = {"train": build_listing(**train), "val": build_listing(**val)}
    found = f"{sum(train.values())}/{sum(val.values())}"
    with pytest.raises(
        InputError, match=rf"has {found} pictures \(train/val\), expected 7/4/6 or 5/4: copy it again, or"
    ):
        check_counts(splits, OFFICIAL, where="/pictures", allow_partial=False)
    assert not check_counts(splits, OFFICIAL, where="/pictures", allow_partial=True)
    assert not check_counts(splits, (), where="/pictures", allow_partial=False)


def test_uneven_classes_betray_wrong_labels_even_where_the_total_is_right():
    splits = {"train": build_listing(a=2, b=3), "val": build_listing(a=1, b=3)}
    with pytest.raises(
        InputError, match="classes of val have 1 to 3 pictures and should have equally many, so some are"
    ):
        check_counts(splits, OFFICIAL, where="/pictures", allow_partial=True)
