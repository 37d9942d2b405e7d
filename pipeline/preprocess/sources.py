"""Where the pictures are: class folders on disk become labelled images, split by split."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.artifacts import ClassInfo, Split
from pipeline.errors import InputError, check

SPLITS: tuple[Split, ...] = ("train", "val", "test")
MAX_CLASS_BYTES, MAX_STEM_BYTES = 155, 96  # what a tar header holds of NAME/STEM.jpg


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledImage:
    """A source file, its label (position of its class in WordNet-id order) and its key in the shards."""

    path: Path
    label: int
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """All pictures that were found, by split, in order of key."""

    layout: Literal["split folders", "class folders"]
    classes: tuple[ClassInfo, ...]
    splits: dict[Split, tuple[LabelledImage, ...]]


def read_source(root: Path, *, val_fraction: float | None, seed: int) -> Source:
    """Find the pictures below `root`.

    Two layouts: `root/{train,val[,test]}/CLASS/NAME`, and `root/CLASS/NAME` from which a share is held out.

    Args:
        root: the folder.
        val_fraction: share of the training pictures that become `val`; needed where there is no `val` folder.
        seed: decides which ones are held out.

    Raises:
        InputError: nothing there, a class in one split only, a flat `val`, two files with one key, a name too long for
            a tar file, or a missing or superfluous `val_fraction`.
    """
    check(root.is_dir(), f"{root} is not a directory: pass the folder that holds the class folders")
    found: dict[Split, Path] = {split: root / split for split in SPLITS if (root / split).is_dir()}
    layout: Literal["split folders", "class folders"] = "split folders" if "train" in found else "class folders"
    if layout == "class folders":
        check(not found, f"{root} has {'/, '.join(found)}/ but no train/: add it or pass the folder of class folders")
        found = {"train": root}
    names = {split: _read_class_names(path) for split, path in found.items()}
    _check_classes_agree(root, names)
    classes = tuple(ClassInfo(id=name, name=name) for name in names["train"])
    splits = {split: _read_images(path, names["train"]) for split, path in found.items()}
    if "val" in splits:
        check(
            val_fraction is None,
            f"--val-fraction {val_fraction} was given but {root}/val exists: leave out one of them",
        )
    else:
        check(
            val_fraction is not None,
            f"{root} has no val/: pass --val-fraction 0.1 to hold out a tenth of the training pictures",
        )
        splits["train"], splits["val"] = _hold_out(splits["train"], val_fraction or 0.0, seed)
    return Source(layout=layout, classes=classes, splits={split: splits[split] for split in SPLITS if split in splits})


def _read_class_names(path: Path) -> list[str]:
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise InputError(
            f"{path} has {len(entries)} files and no class folders: expected CLASS/NAME.JPEG, one folder for each class"
        )
    return names


def _check_classes_agree(root: Path, names: dict[Split, list[str]]) -> None:
    for split, found in names.items():
        odd = sorted(set(found) ^ set(names["train"]))
        check(
            not odd,
            f"{root}: {len(odd)} classes, {odd[0] if odd else ''} first, are in only one of train/ and {split}/: "
            "give both the same class folders",
        )


def _read_images(path: Path, names: Sequence[str]) -> tuple[LabelledImage, ...]:
    images: dict[str, LabelledImage] = {}
    for label, name in enumerate(names):
        for file in sorted((path / name).iterdir()):
            if not file.is_file() or file.name.startswith("."):
                continue
            key = build_key(name, file.stem)
            _check_key_fits(key, file)
            if key in images:
                raise InputError(f"{file} and {images[key].path} would both be stored as {key}: rename one of them")
            images[key] = LabelledImage(path=file, label=label, key=key)
    check(len(images) > 0, f"{path} has {len(names)} class folders and not one picture: expected CLASS/NAME.JPEG")
    return tuple(images[key] for key in sorted(images))


def build_key(class_name: str, stem: str) -> str:
    """Key of a picture: folder and file name, free of the dots and blanks that tar readers split at."""
    return "/".join(re.sub(r"[^\w-]", "_", part) for part in (class_name, stem))


def _check_key_fits(key: str, file: Path) -> None:
    for part, limit in zip(key.split("/"), (MAX_CLASS_BYTES, MAX_STEM_BYTES), strict=True):
        found = len(part.encode())
        check(found <= limit, f"{file}: {part} has {found} bytes, but tar files hold names of {limit}: shorten it")


def _hold_out(
    images: tuple[LabelledImage, ...], fraction: float, seed: int
) -> tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]:
    num_val = round(len(images) * fraction)
    check(
        0 < num_val < len(images),
        f"--val-fraction {fraction} of {len(images)} pictures leaves {num_val} for val and {len(images) - num_val} "
        "for train: choose one that leaves both at least one",
    )
    held_out = set(np.random.default_rng(seed).permutation(len(images))[:num_val].tolist())
    train = tuple(image for position, image in enumerate(images) if position not in held_out)
    val = tuple(image for position, image in enumerate(images) if position in held_out)
    return train, val
