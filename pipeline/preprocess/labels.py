"""The label guard: every class in every split, every picture under its class, as many as there should be."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline import paper
from pipeline.errors import InputError, check
from pipeline.options import Layout, Split
from pipeline.preprocess.devkit import WORDNET_ID, Devkit, GroundTruth
from pipeline.preprocess.ledger import LedgerEntry
from pipeline.preprocess.listing import Container, IgnoredFiles, Listing, Rows

NUMBERED_STEM = re.compile(rb"(ILSVRC\d{4}_[a-z]+)_(\d{8})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What the reader of a layout found, its labels not yet proved.

    `names` are words by class id, for those that have any; `official` the counts by split of the data sets that it may
    be; `devkit` what the training pictures are proved by.
    """

    layout: Layout
    containers: tuple[Container, ...]
    splits: dict[Split, Listing]
    ignored: IgnoredFiles
    names: dict[str, str] = field(default_factory=dict)
    devkit: Devkit | None = None
    official: tuple[Mapping[str, int], ...] = ()


def check_whole(condition: object, sentence: str, *, allow_partial: bool) -> None:
    """Refuse what is less than the whole, unless that is wanted.

    Raises:
        InputError: neither `condition` nor `allow_partial` holds.
    """
    check(condition or allow_partial, f"{sentence}, or accept it with --allow-partial")


def _first(found: Sequence[object] | npt.NDArray[np.int64]) -> object:
    return found[0] if len(found) else ""


def label_by_number(
    rows: Rows, truth: GroundTruth, *, split: Split, path: Path, ignored: IgnoredFiles, allow_partial: bool
) -> Listing:
    """Label pictures by the number in their names, never by their place.

    Args:
        rows: the pictures.
        truth: the class of each number.
        split: split that they belong to.
        path: folder or archive that holds them.
        ignored: gets what has no number.
        allow_partial: accept fewer pictures than the ground truth knows.

    Raises:
        InputError: a number is missing, double, unknown, or of another challenge or split.
    """
    numbers = _parse_numbers(rows, truth.prefix, path)
    if np.any(numbers < 0):
        first = rows["name"][np.argmin(numbers)].decode()
        kind = f"files not named like {truth.prefix}_00000001.JPEG"
        ignored.add(split, path.name, kind, first, count=int((numbers < 0).sum()))
    rows, numbers = rows[numbers >= 0], numbers[numbers >= 0]
    found, counts = np.unique(numbers, return_counts=True)
    double = found[counts > 1]
    check(
        not len(double), f"{path} holds picture {_first(double)} of {truth.prefix} more than once: keep the right one"
    )
    known = np.fromiter(truth.class_ids, np.int64, len(truth.class_ids))
    unknown = np.setdiff1d(found, known)
    check(
        not len(unknown),
        f"{path} holds {len(unknown)} pictures of {truth.prefix}, number {_first(unknown)} first, that {truth.origin} "
        "has no line for: download the ground truth again",
    )
    missing = np.setdiff1d(known, found)
    check_whole(
        not len(missing),
        f"{path} lacks {len(missing):,} of {len(known):,} pictures of {truth.prefix}, number {_first(missing)} first: "
        "copy it again",
        allow_partial=allow_partial,
    )
    return Listing.label(rows, [truth.class_ids[number] for number in numbers.tolist()])


def _parse_numbers(rows: Rows, prefix: str, path: Path) -> npt.NDArray[np.int64]:
    """Number in each name, (N,) int64; -1 for a name that has none."""
    numbers = np.full(len(rows), -1)
    for position, stem in enumerate(rows["key"]):
        if match := NUMBERED_STEM.fullmatch(stem):
            if match[1].decode() != prefix:
                raise InputError(f"{path} holds {stem.decode()}, which is no picture of {prefix}: move it away")
            numbers[position] = int(match[2])
    return numbers


def check_sorted_by_number(listing: Listing, truth: GroundTruth, path: Path) -> None:
    """Prove that pictures with a number lie in the class folders that the ground truth says.

    Raises:
        InputError: one does not.
    """
    for position, number in enumerate(_parse_numbers(listing.rows, truth.prefix, path).tolist()):
        found, expected = listing.groups[listing.rows["label"][position]], truth.class_ids.get(number)
        if expected not in (None, found):
            name = listing.rows["name"][position].decode()
            raise InputError(
                f"{path}/{found} holds {name}, but {truth.origin} says that it shows {expected}: sort the pictures "
                "into their class folders again"
            )


def check_devkit(train: Listing, devkit: Devkit, *, where: str, allow_partial: bool) -> None:
    """Prove that the training pictures are those that the kit describes: the same classes, as many in each.

    Raises:
        InputError: a class or picture too many, or, without `allow_partial`, too few.
    """
    found = dict(zip(train.groups, train.count().tolist(), strict=True))
    expected = {synset.id: synset.num_train_images for synset in devkit.synsets}
    unknown = sorted(name for name in found if name not in expected)
    check(
        not unknown,
        f"{where} has {len(unknown)} classes, {_first(unknown)} first, that {devkit.origin} does not know: put the "
        "development kit of these pictures there, or remove the classes",
    )
    missing = sorted(name for name in expected if not found.get(name))
    check_whole(
        not missing,
        f"{where} lacks {len(missing):,} of the {len(expected):,} classes that {devkit.origin} describes, "
        f"{_first(missing)} first: copy it again",
        allow_partial=allow_partial,
    )
    odd = [(name, found[name], expected[name]) for name in sorted(found) if found[name] != expected[name]]
    more = [entry for entry in odd if entry[1] > entry[2]]
    for entries, tolerated in ((more, False), (odd, allow_partial)):
        name, count, wanted = entries[0] if entries else ("", 0, 0)
        check_whole(
            not entries,
            f"{where}: {len(entries)} classes do not have as many training pictures as {devkit.origin} says, {name} "
            f"first with {count:,} instead of {wanted:,}: copy it again",
            allow_partial=tolerated,
        )


def prove_labels(
    found: Found, *, where: str, allow_partial: bool
) -> tuple[dict[Split, Listing], tuple[LedgerEntry, ...], bool]:
    """Prove what was found: classes, counts, and that they are the same in all splits.

    Args:
        found: what a layout's reader found.
        where: how sentences call the source.
        allow_partial: accept less than there should be; pictures of classes without training pictures are left out.

    Returns:
        The splits, their groups the same classes in order of id; entries for the ledger; and whether this is the whole
        of an official data set.

    Raises:
        InputError: a class or picture is missing, or too many.
    """
    if found.devkit:
        check_devkit(found.splits["train"], found.devkit, where=where, allow_partial=allow_partial)
    splits, entries = settle_classes(found.splits, where=where, allow_partial=allow_partial)
    official = found.official or find_official_counts(splits["train"].groups)
    return splits, entries, check_counts(splits, official, where=where, allow_partial=allow_partial)


def settle_classes(
    splits: Mapping[Split, Listing], *, where: str, allow_partial: bool
) -> tuple[dict[Split, Listing], tuple[LedgerEntry, ...]]:
    """Number the classes in order of their ids, the same in all splits.

    The classes are those of the training pictures; with `allow_partial`, pictures of others are left out.

    Returns:
        The splits, all with the same groups, and a ledger entry for each class that is not in all of them.

    Raises:
        InputError: a class folder is empty, or a class is in one split only.
    """
    counts = {
        split: dict(zip(listing.groups, listing.count().tolist(), strict=True)) for split, listing in splits.items()
    }
    for split, found in counts.items():
        check(
            any(found.values()), f"{where}: {split} has {len(found)} classes and not one picture: expected CLASS/NAME"
        )
        empty = sorted(name for name, count in found.items() if not count)
        check_whole(
            not empty,
            f"{where}: {len(empty)} classes of {split}, {_first(empty)} first, have no picture: fill or remove them",
            allow_partial=allow_partial,
        )
    classes = sorted(name for name, count in counts["train"].items() if count)
    entries: list[LedgerEntry] = []
    for split, found in counts.items():
        extra = sorted(found.keys() - set(classes))
        lacking = [name for name in classes if not found.get(name)]
        odd = sorted(extra + lacking)
        check_whole(
            not odd,
            f"{where}: {len(odd)} classes, {_first(odd)} first, are in only one of train and {split}: give both the "
            "same class folders",
            allow_partial=allow_partial,
        )
        for name in extra:
            detail = f"{found[name]:,} pictures left out: the class has no training pictures"
            entries.append(LedgerEntry(split=split, key="", file=name, action="ignored", detail=detail))
        for name in lacking:
            detail = f"the class has no {split} pictures"
            entries.append(LedgerEntry(split=split, key="", file=name, action="kept", detail=detail))
    settled = {split: listing.regroup(listing.groups, classes) for split, listing in splits.items()}
    for split, listing in settled.items():
        check(len(listing.rows), f"{where}: no picture of {split} is of a class that has training pictures")
    return settled, tuple(entries)


def find_official_counts(classes: Sequence[str]) -> tuple[Mapping[str, int], ...]:
    """Counts that pictures of these classes should have: as many WordNet ids as a challenge has are those of one."""
    if len(classes) == paper.CLASSES and all(WORDNET_ID.fullmatch(name) for name in classes):
        return tuple(paper.NUM_IMAGES.values())
    return ()


def check_counts(
    splits: Mapping[Split, Listing], official: Sequence[Mapping[str, int]], *, where: str, allow_partial: bool
) -> bool:
    """Prove the number of pictures, and that each class has equally many outside the training set.

    Args:
        splits: what was found, its classes settled.
        official: what any of the data sets that it may be should have; nothing is proved where there is none.
        where: how sentences call the source.
        allow_partial: accept other counts.

    Returns:
        Whether the source is the whole of an official data set.

    Raises:
        InputError: the counts are those of none of them, or the classes are uneven.
    """
    found = {split: len(listing.rows) for split, listing in splits.items()}
    fitting = [counts for counts in official if found.items() <= counts.items()]
    expected = " or ".join("/".join(f"{count:,}" for count in counts.values()) for counts in official)
    check_whole(
        fitting or not official,
        f"{where} has {'/'.join(f'{count:,}' for count in found.values())} pictures ({'/'.join(found)}), expected "
        f"{expected}: copy it again",
        allow_partial=allow_partial,
    )
    for split, listing in splits.items() if fitting else ():
        counts = listing.count()
        check(
            split == "train" or counts.min() == counts.max(),
            f"{where}: the classes of {split} have {counts.min()} to {counts.max()} pictures and should have equally "
            "many, so some are labelled wrongly: sort them into their classes again",
        )
    return any(set(counts) == set(found) for counts in fitting)
