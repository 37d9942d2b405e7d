"""The official archives of ILSVRC2010 and ILSVRC2012: a tar of class tars, flat tars, and the kit that labels them."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline import paper
from pipeline.errors import InputError, check
from pipeline.options import Split
from pipeline.preprocess.devkit import ILSVRC2010, WORDNET_ID, Challenge, Devkit, find_devkit, read_devkit
from pipeline.preprocess.labels import Found, check_whole, label_by_number
from pipeline.preprocess.listing import (
    Container,
    IgnoredFiles,
    Listing,
    RowCollector,
    get_stem,
)
from pipeline.preprocess.tars import is_picture, list_tar, open_archive

PATCH_ARCHIVE = "patch_images.tar"
"""Pictures of ILSVRC2010 that were blank in the archives, as SPLIT/NAME."""


def read_archives(root: Path, challenge: Challenge, *, allow_partial: bool) -> Found:
    """Find the pictures in the archives of a folder, in place.

    Args:
        root: the folder.
        challenge: whose archives they are.
        allow_partial: accept missing archives other than that of the training pictures, and missing pictures.

    Raises:
        InputError: an archive or the kit is missing, damaged, or holds what does not belong there.
    """
    devkit = _read_devkit(root, challenge)
    archives = _find_archives(root, challenge, allow_partial=allow_partial)
    names = list(archives.values())
    ignored = IgnoredFiles()
    splits: dict[Split, Listing] = {}
    for container, (split, name) in enumerate(archives.items()):
        path = root / name
        if split == "train":
            splits[split] = _list_class_tars(path, container, ignored)
            continue
        check(
            split in devkit.truths,
            f"{devkit.origin} has no {split} ground truth of {challenge.prefix}: put it beside {name}",
        )
        rows, truth = list_tar(path, container, split, ignored).rows, devkit.truths[split]
        splits[split] = label_by_number(
            rows, truth, split=split, path=path, ignored=ignored, allow_partial=allow_partial
        )
    if challenge is ILSVRC2010 and (root / PATCH_ARCHIVE).is_file():
        _patch(splits, archives, root / PATCH_ARCHIVE, len(names), ignored)
        names.append(PATCH_ARCHIVE)
    for path in sorted(root.glob("*.tar")):
        if path.name not in names and path.stem not in challenge.kits:
            ignored.add("train", ".", f"archives without labelled pictures of {challenge.prefix}", path.name)
    return Found(
        layout="ilsvrc2010" if challenge is ILSVRC2010 else "ilsvrc2012",
        containers=tuple(Container(path=name, kind="tar") for name in names),
        splits=splits,
        names={synset.id: synset.words for synset in devkit.synsets},
        devkit=devkit,
        official=(paper.NUM_IMAGES[challenge.dataset],),
        ignored=ignored,
    )


def _read_devkit(root: Path, challenge: Challenge) -> Devkit:
    path = find_devkit(root, challenge)
    if path is None:
        raise InputError(
            f"{root} has no development kit of {challenge.prefix}, which says what the validation pictures show: put "
            f"{challenge.kits[0]}.tar.gz there"
        )
    return read_devkit(path, challenge)


def _find_archives(root: Path, challenge: Challenge, *, allow_partial: bool) -> dict[Split, str]:
    """Names of the archives that are there."""
    found: dict[Split, str] = {}
    for split, name in challenge.archives.items():
        path = root / name
        check(path.exists() or split != "train", f"{path} does not exist: put it there")
        check_whole(path.exists(), f"{path} does not exist: put it there", allow_partial=allow_partial)
        check(not path.is_dir(), f"{path} is a folder: put the archive itself there, or pass --layout folders")
        if path.exists():
            found[split] = name
    return found


def _list_class_tars(path: Path, container: int, ignored: IgnoredFiles) -> Listing:
    """List the training pictures: the archive's members are tars named by WordNet id."""
    collector = RowCollector()
    seen = set()
    with open_archive(path) as archive:
        stamp = path.stat().st_mtime_ns
        for member in tqdm(archive.walk(), desc=f"index {path.name}", unit=" classes", disable=None, leave=False):
            if not member.isreg() or not member.name.endswith(".tar"):
                if not member.isdir():
                    ignored.add("train", path.name, "members that are no class archives", member.name)
                continue
            class_id, where = get_stem(member.name), f"{path}, member {member.name},"
            check(WORDNET_ID.fullmatch(class_id), f"{where} is not named by a WordNet id like n01440764.tar: rename it")
            check(class_id not in seen, f"{where} is there twice: keep the right one")
            seen.add(class_id)
            collector.add_group(class_id)
            inner = archive.open_inner(member)
            for picture in inner.walk():
                if is_picture(picture, "train", f"{path.name}/{member.name}", ignored):
                    check(
                        get_stem(picture.name).startswith(f"{class_id}_"),
                        f"{where} holds {picture.name}, whose name should begin with {class_id}_: copy it again",
                    )
                    offset, size = inner.locate(picture), picture.size
                    collector.add(class_id, picture.name, container=container, offset=offset, size=size, stamp=stamp)
    return collector.build()


def _patch(
    splits: dict[Split, Listing], archives: dict[Split, str], path: Path, container: int, ignored: IgnoredFiles
) -> None:
    """Let the pictures of the patch archive, SPLIT/NAME, take the place of those with the same name."""
    patches = list_tar(path, container, None, ignored)
    for split, listing in splits.items():
        chosen = [folder.rpartition("/")[2] == split for folder in patches.groups]
        new = patches.rows[np.array(chosen, bool)[patches.rows["label"]]]
        stems = set(new["key"].tolist())
        places = {stem: place for place, stem in enumerate(listing.rows["key"]) if stem in stems}
        for row in new:
            name = row["name"].decode()
            if row["key"] not in places:
                ignored.add(split, path.name, "pictures that are in no archive", name)
                continue
            ignored.add(split, archives[split], f"pictures replaced by those of {path.name}", name)
            for field in ("container", "offset", "size", "stamp"):
                listing.rows[field][places[row["key"]]] = row[field]
