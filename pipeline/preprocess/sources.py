"""Where the pictures are: a folder, an archive or arrays become labelled and proved rows."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts import SPLITS, ClassInfo
from pipeline.errors import InputError, check
from pipeline.options import Layout, Split
from pipeline.preprocess.archives import read_archives
from pipeline.preprocess.arrays import (
    CIFAR10_ARCHIVE,
    CIFAR10_FOLDER,
    FASHION_FOLDER,
    read_cifar10,
    read_fashion_mnist,
)
from pipeline.preprocess.content import describe_row
from pipeline.preprocess.devkit import ILSVRC2010, ILSVRC2012
from pipeline.preprocess.folders import KAGGLE_PICTURES, read_folders, read_tar
from pipeline.preprocess.labels import Found, check_whole, prove_labels
from pipeline.preprocess.ledger import LedgerEntry
from pipeline.preprocess.listing import (
    MAX_CLASS_BYTES,
    Container,
    Listing,
    Rows,
    build_row_type,
    clean_key_part,
    explain_os_errors,
    list_folder,
)

MARKS: dict[Layout, tuple[str, ...]] = {
    "ilsvrc2012": (ILSVRC2012.archives["train"],),
    "ilsvrc2010": (ILSVRC2010.archives["train"],),
    "folders": ("train/", f"{KAGGLE_PICTURES}/train/"),
    "cifar10": (f"{CIFAR10_FOLDER}/", CIFAR10_ARCHIVE),
    "fashion-mnist": (f"{FASHION_FOLDER}/",),
}
"""What tells a layout: any of these in the source."""
CLASS_TAR = re.compile(r"n\d{8}\.tar")
MAX_NAMED_ENTRIES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """All pictures that were found, labelled and proved.

    `splits` holds a structured array for each, in order of label and key, so that the same pictures stand in the same
    order wherever they come from. Fields of a row: `container` int32, its position in `containers`; `offset` int64, the
    first byte in a tar, the row number in arrays, 0 in folders; `size` int64 bytes; `label` int32; `stamp` int64, the
    time in ns at which the file that holds the picture was last changed; `name` UTF-8, its name in the container; `key`
    UTF-8, `CLASS/STEM` as the shards call it.

    `ignored` says what was left out on purpose; `complete`, that this was proved to be the whole of an official data
    set.
    """

    layout: Layout
    classes: tuple[ClassInfo, ...]
    containers: tuple[Container, ...]
    splits: dict[Split, Rows]
    ignored: tuple[LedgerEntry, ...]
    complete: bool


def read_source(
    root: Path, *, layout: Layout | None, val_fraction: float | None, seed: int, allow_partial: bool
) -> Source:
    """Find the pictures of a source and prove their labels; nothing is extracted or decoded.

    CIFAR-10 and FashionMNIST have no validation pictures: their test pictures become `val`, unless `val_fraction` asks
    for a share of the training pictures; then they stay `test`.

    Args:
        root: folder, tar, or archive of arrays.
        layout: what it is; None to look.
        val_fraction: share of the training pictures that become `val`; needed where there is none.
        seed: decides which ones.
        allow_partial: accept fewer classes or pictures than there should be. What is damaged or labelled wrongly is
            refused all the same.

    Raises:
        InputError: nothing fits, several layouts do, or the pictures or labels are not what they should be.
    """
    check(root.exists(), f"{root} does not exist: pass the folder, or the tar, that holds the pictures")
    found = _read_layout(root, layout or find_layout(root), allow_partial=allow_partial)
    settled, entries, complete = prove_labels(found, where=str(root), allow_partial=allow_partial)
    classes = settled["train"].groups
    splits = {split: _build_rows(listing, found.containers) for split, listing in settled.items()}
    if val_fraction is None and found.layout in ("cifar10", "fashion-mnist") and "test" in splits:
        splits["val"] = splits.pop("test")
    if val_fraction is not None:
        check("val" not in splits, f"--val-fraction {val_fraction} was given but {root} has val: leave out one of them")
        splits["train"], splits["val"] = hold_out(splits["train"], val_fraction, seed, allow_partial=allow_partial)
    check("val" in splits, _say_no_val(root, found.layout))
    return Source(
        layout=found.layout,
        classes=tuple(ClassInfo(id=name, name=found.names.get(name, name)) for name in classes),
        containers=found.containers,
        splits={split: splits[split] for split in SPLITS if split in splits},
        ignored=(*found.ignored.build_entries(), *entries),
        complete=complete and val_fraction is None,
    )


def _say_no_val(root: Path, layout: Layout) -> str:
    wanted = {"ilsvrc2012": ILSVRC2012.archives["val"], "ilsvrc2010": ILSVRC2010.archives["val"]}.get(layout, "val/")
    beside = [entry.name for entry in list_folder(root) if entry.is_dir()] if (root / "train").is_dir() else []
    others = [f"{name}/" for name in beside if name != "train"]
    also = f" (it has {', '.join(others[:MAX_NAMED_ENTRIES])}, which are not taken for it)" if others else ""
    return (
        f"{root} has no {wanted}{also}: put it there, or pass --val-fraction 0.1 to hold out a tenth of the training "
        "pictures"
    )


def find_layout(root: Path) -> Layout:
    """Tell what a source is by what lies in it.

    Raises:
        InputError: nothing or too much fits.
    """
    check(not (root / "dataset.json").is_file(), f"{root} is a shard set already: pass the pictures, or train on it")
    if root.is_file():
        official = {name for challenge in (ILSVRC2010, ILSVRC2012) for name in challenge.archives.values()}
        check(root.name not in official, f"{root} is one of the official archives: pass the folder that holds them all")
        return "cifar10" if root.name == CIFAR10_ARCHIVE else "folders"
    for outer in list(root.resolve().parents)[:2]:  # at a folder within what torchvision leaves
        for mark in (*MARKS["cifar10"], *MARKS["fashion-mnist"]):
            inside = _has(outer, mark) and root.resolve().is_relative_to(outer / mark.split("/")[0])
            check(not inside, f"{root} is a part of {outer / mark}: pass {outer}, or say what it is with --layout")
    fitting = _find_fitting(root)
    check(len(fitting) < 2, f"{root} could be {' or '.join(fitting)}: say which with --layout")
    if fitting:
        return fitting[0]
    entries = list_folder(root)
    for entry in entries:
        nested = _find_fitting(Path(entry.path)) if entry.is_dir() else []
        check(
            not nested,
            f"{root} has no pictures of its own, but {entry.path} looks like {' and '.join(nested)}: pass it",
        )
    if not any(entry.name.startswith(("ILSVRC", "devkit")) for entry in entries):  # else archives of which some lack
        with explain_os_errors(root):
            if any(_has(root, f"{split}/") for split in SPLITS) or any(map(_is_class_folder, entries)):
                return "folders"
    class_tars = [entry.name for entry in entries if CLASS_TAR.fullmatch(entry.name)]
    check(
        not class_tars,
        f"{root} holds class tars like {class_tars[0] if class_tars else ''}, the content of "
        f"{ILSVRC2012.archives['train']}: pass the folder with that archive itself, or unpack each into a folder of "
        "its name",
    )
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries[:MAX_NAMED_ENTRIES]]
    marks = ", ".join(mark for layout in MARKS if layout != "folders" for mark in MARKS[layout])
    raise InputError(
        f"{root} holds {len(entries)} files and folders ({', '.join(names) or 'none'}), which are no known layout: "
        f"expected train/CLASS/NAME.JPEG and val/CLASS/NAME.JPEG, CLASS/NAME.JPEG, {KAGGLE_PICTURES}/, {marks}, or "
        "instead of a folder one uncompressed tar of class folders; pass a tar by its own name"
    )


def _find_fitting(root: Path) -> list[Layout]:
    return [layout for layout, marks in MARKS.items() if any(_has(root, mark) for mark in marks)]


def _has(root: Path, mark: str) -> bool:
    return (root / mark).is_dir() if mark.endswith("/") else (root / mark).exists()


def _is_class_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and any(not inner.is_dir() for inner in list_folder(Path(entry.path)))


def _read_layout(root: Path, layout: Layout, *, allow_partial: bool) -> Found:
    if root.is_file() and layout == "folders":
        return read_tar(root)
    check(
        root.is_dir() or layout == "cifar10", f"--layout {layout} needs a folder, but {root} is a file: pass its folder"
    )
    match layout:
        case "ilsvrc2012":
            return read_archives(root, ILSVRC2012, allow_partial=allow_partial)
        case "ilsvrc2010":
            return read_archives(root, ILSVRC2010, allow_partial=allow_partial)
        case "folders":
            return read_folders(root, allow_partial=allow_partial)
        case "cifar10":
            return read_cifar10(root, allow_partial=allow_partial)
        case "fashion-mnist":
            return read_fashion_mnist(root, allow_partial=allow_partial)


def _build_rows(listing: Listing, containers: Sequence[Container]) -> Rows:
    """Complete the keys, and sort by label and key.

    Raises:
        InputError: two classes or two pictures would be stored under one name.
    """
    cleaned: dict[bytes, str] = {}
    for name in listing.groups:
        prefix = clean_key_part(name, name, MAX_CLASS_BYTES) + b"/"
        other = cleaned.setdefault(prefix, name)
        check(
            other == name,
            f"classes {other!r} and {name!r} would both be stored as {prefix.decode()}: rename one of them",
        )
    keys = np.strings.add(np.array(list(cleaned))[listing.rows["label"]], listing.rows["key"])
    order = np.lexsort((keys, listing.rows["label"]))
    rows = np.empty(len(order), build_row_type(listing.rows["name"].itemsize, keys.itemsize))
    for field in listing.rows.dtype.names or ():
        rows[field] = (keys if field == "key" else listing.rows[field])[order]
    double = np.flatnonzero(rows["key"][1:] == rows["key"][:-1])
    if len(double):
        one, other = (describe_row(row, containers) for row in rows[double[0] : double[0] + 2])
        raise InputError(
            f"{one} and {other} would both be stored as {rows['key'][double[0]].decode()}: rename one of them"
        )
    return rows


def hold_out(train: Rows, fraction: float, seed: int, *, allow_partial: bool) -> tuple[Rows, Rows]:
    """Hold out a share of the training pictures, about the same of each class.

    Each class is shuffled, and its pictures get places spread evenly over 0 to 1; those with the lowest places of all
    are held out, where places are equal by lot. So a class gives its share, rounded, and the total is exact.

    Args:
        train: the pictures, in order of label.
        fraction: share that is held out.
        seed: decides which.
        allow_partial: accept classes that keep no training picture.

    Returns:
        Training and validation pictures, both in the order that they had.

    Raises:
        InputError: nothing is left on one side, or of a class for training.
    """
    num_val = round(len(train) * fraction)
    check(
        0 < num_val < len(train),
        f"--val-fraction {fraction} of {len(train)} pictures leaves {num_val} for val and {len(train) - num_val} for "
        "train: choose one that leaves both at least one",
    )
    labels, lot = train["label"], np.random.default_rng(seed).random(len(train))
    shuffled = np.lexsort((lot, labels))
    counts = np.bincount(labels)
    ranks = np.arange(len(train)) - (np.cumsum(counts) - counts)[labels]
    places = (ranks + 0.5) / counts[labels]
    held_out = np.zeros(len(train), bool)
    held_out[shuffled[np.lexsort((lot[shuffled], places))[:num_val]]] = True
    num_emptied = len(counts) - len(np.unique(labels[~held_out]))
    check_whole(
        num_emptied == 0,
        f"--val-fraction {fraction} leaves {num_emptied:,} of {len(counts):,} classes without training pictures: "
        "choose a smaller one, or give these classes more pictures",
        allow_partial=allow_partial,
    )
    return train[~held_out], train[held_out]
