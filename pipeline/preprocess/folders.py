"""Pictures in class folders on disk, or inside one uncompressed tar."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.artifacts import SPLITS
from pipeline.errors import check
from pipeline.options import Split
from pipeline.preprocess.devkit import (
    ILSVRC2010,
    ILSVRC2012,
    KAGGLE_NAMES,
    KAGGLE_SOLUTION,
    Devkit,
    GroundTruth,
    find_devkit,
    read_devkit,
    read_kaggle_names,
    read_kaggle_solution,
)
from pipeline.preprocess.labels import Found, check_sorted_by_number, label_by_number
from pipeline.preprocess.listing import (
    Container,
    IgnoredFiles,
    Listing,
    RowCollector,
    Rows,
    explain_os_errors,
    list_folder,
)
from pipeline.preprocess.tars import guess_split, list_tar

KAGGLE_PICTURES = "ILSVRC/Data/CLS-LOC"
Folder = tuple[str, ...]
NAMED_BY_WORDNET_ID = re.compile(rb"(n\d{8})_.*")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Guides:
    """What lies beside the pictures and labels or names them."""

    devkit: Devkit | None
    truths: dict[Split, GroundTruth]
    names: dict[str, str]


def read_folders(root: Path, *, allow_partial: bool) -> Found:
    """Find the pictures in `root/{train,val[,test]}/CLASS/NAME` or `root/CLASS/NAME`; links are followed.

    The splits may lie where Kaggle puts them. A split may be flat if a development kit or Kaggle's table in `root` says
    what its pictures show; a flat `test` that nothing labels is left out.

    Args:
        root: the folder.
        allow_partial: accept fewer pictures than the ground truth of a flat split knows.

    Raises:
        InputError: no class folders, a flat split without labels, or pictures in the wrong class folder.
    """
    base = next((root / part for part in (".", KAGGLE_PICTURES) if (root / part / "train").is_dir()), root)
    paths: dict[Split, Path] = {split: base / split for split in SPLITS if (base / split).is_dir()}
    check(
        "train" in paths or not paths,
        f"{root} has {'/, '.join(paths)}/ but no train/: add it, or pass its class folders",
    )
    guides = _read_guides(root)
    disk = _Disk(root)
    splits: dict[Split, Listing] = {}
    for split, path in (paths or {"train": root}).items():
        listing = disk.list_classes(path, split)
        if not listing.groups:
            flat = disk.list_flat(path, split, guides)
            if flat is None:
                continue
            truth = guides.truths[split]
            listing = label_by_number(
                flat.rows, truth, split=split, path=path, ignored=disk.ignored, allow_partial=allow_partial
            )
        elif split in guides.truths:
            check_sorted_by_number(listing, guides.truths[split], path)
        splits[split] = listing
    return Found(
        layout="folders",
        containers=tuple(disk.containers),
        splits=splits,
        names=guides.names,
        devkit=guides.devkit,
        ignored=disk.ignored,
    )


def _read_guides(root: Path) -> _Guides:
    kits = [(path, challenge) for challenge in (ILSVRC2010, ILSVRC2012) if (path := find_devkit(root, challenge))]
    check(len(kits) < 2, f"{root} has the development kits of two years: keep that of these pictures")
    devkit = read_devkit(*kits[0]) if kits else None
    truths: dict[Split, GroundTruth] = {}
    if devkit:
        truths = devkit.truths
    elif (root / KAGGLE_SOLUTION).is_file():
        truths = {"val": read_kaggle_solution(root / KAGGLE_SOLUTION)}
    names = {synset.id: synset.words for synset in devkit.synsets} if devkit else {}
    if (root / KAGGLE_NAMES).is_file():
        names = read_kaggle_names(root / KAGGLE_NAMES) | names
    return _Guides(devkit=devkit, truths=truths, names=names)


@dataclass(slots=True)
class _Disk:
    """Lists folders below `root`, and gathers the containers and what is left out."""

    root: Path
    containers: list[Container] = field(default_factory=list)
    ignored: IgnoredFiles = field(default_factory=IgnoredFiles)

    def list_classes(self, path: Path, split: Split) -> Listing:
        """The class folders of a split; no groups if it has none."""
        collector = RowCollector()
        with explain_os_errors(path):
            entries = list_folder(path)
            folders = [entry for entry in entries if entry.is_dir()]
            files = [entry for entry in entries if not entry.is_dir()]
            for entry in tqdm(folders, desc=f"index {path.name}", unit=" classes", disable=None, leave=False):
                collector.add_group(entry.name)
                self._list_files(Path(entry.path), split, entry.name, collector)
        if folders and files:
            where = path.relative_to(self.root).as_posix()
            self.ignored.add(split, where, "files outside of class folders", files[0].name, count=len(files))
        return collector.build()

    def list_flat(self, path: Path, split: Split, guides: _Guides) -> Listing | None:
        """The files of a split without class folders; None if they are to be left out.

        Raises:
            InputError: nothing says what they show.
        """
        collector = RowCollector()
        self._list_files(path, split, "", collector)
        flat = collector.build()
        if split in guides.truths:
            return flat
        found = f"{path} has {len(flat.rows):,} files and no class folders"
        check(split != "train", f"{found}: expected CLASS/NAME.JPEG, one folder for each class")
        check(
            split == "test" and len(flat.rows),
            f"{found}, and nothing says what they show: sort them into {split}/CLASS/NAME.JPEG, or put "
            f"{ILSVRC2012.kits[0]}.tar.gz or Kaggle's {KAGGLE_SOLUTION} into {self.root}",
        )
        first = flat.rows["name"][0].decode()
        where = path.relative_to(self.root).as_posix()
        self.ignored.add(split, where, "pictures without labels", first, count=len(flat.rows))
        return None

    def _list_files(self, path: Path, split: Split, group: str, collector: RowCollector) -> None:
        where = path.relative_to(self.root).as_posix()
        self.containers.append(Container(path=where, kind="folder"))
        with explain_os_errors(path):
            for entry in list_folder(path):
                if not entry.is_file():
                    kind = "nested folders" if entry.is_dir() else "broken links or special files"
                    self.ignored.add(split, where, kind, entry.name)
                    continue
                status = entry.stat()
                collector.add(
                    group,
                    entry.name,
                    container=len(self.containers) - 1,
                    offset=0,
                    size=status.st_size,
                    stamp=status.st_mtime_ns,
                )


def read_tar(path: Path) -> Found:
    """Find the pictures of one tar: SPLIT/CLASS/NAME or CLASS/NAME, or all in one folder and named nXXXXXXXX_NAME.

    Args:
        path: the tar; its class folders may lie below others.

    Raises:
        InputError: it is damaged or compressed, or its pictures lie otherwise.
    """
    ignored = IgnoredFiles()
    listing = list_tar(path, 0, None, ignored)
    folders: list[Folder] = [tuple(group.split("/")) if group else () for group in listing.groups]
    counts = {folder: count for folder, count in zip(folders, listing.count().tolist(), strict=True) if count}
    check(counts, f"{path} holds no pictures: expected CLASS/NAME.JPEG")
    has_splits = any(folder[-2:-1] == ("train",) for folder in counts)
    splits: dict[Split, Listing]
    if len(counts) == 1 and not has_splits:
        splits = {"train": _label_by_name(listing.rows, path, ignored)}
    else:
        base = _find_base(path, counts, has_splits=has_splits)
        splits = _arrange(path, listing, folders, base, ignored, has_splits=has_splits)
    return Found(layout="folders", containers=(Container(path=".", kind="tar"),), splits=splits, ignored=ignored)


def _label_by_name(rows: Rows, path: Path, ignored: IgnoredFiles) -> Listing:
    """Label pictures by the WordNet id that their names begin with."""
    found = [NAMED_BY_WORDNET_ID.fullmatch(stem) for stem in rows["key"]]
    fits = np.array([match is not None for match in found])
    first = rows["name"][np.argmin(fits)].decode()
    check(
        fits.any(),
        f"{path} holds {len(rows):,} files in one folder, {first} first: expected CLASS/NAME.JPEG or names like "
        "n01440764_10026.JPEG",
    )
    if not fits.all():
        ignored.add("train", path.name, "files not named by a WordNet id", first, count=int((~fits).sum()))
    return Listing.label(rows[fits], [match[1].decode() for match in found if match])


def _find_base(path: Path, counts: dict[Folder, int], *, has_splits: bool) -> Folder:
    """The folder below which class folders lie, or splits of them."""
    if has_splits:
        bases = {folder[:-2] for folder in counts if folder[-2:-1] == ("train",)}
    else:  # pictures are many and strays few: the level that has most files is that of the class folders
        files = Counter[int]()
        for folder, count in counts.items():
            files[len(folder)] += count
        depth = files.most_common(1)[0][0]
        bases = {folder[:-1] for folder in counts if len(folder) == depth}
    first, *others = sorted(bases)
    check(
        not others and first[-1:] not in (("val",), ("test",)),
        f"{path} holds class folders below {' and '.join('/'.join(base) or '.' for base in sorted(bases))}: expected "
        "train/CLASS/NAME.JPEG and val/CLASS/NAME.JPEG, or CLASS/NAME.JPEG below one folder",
    )
    return first


def _arrange(
    path: Path, listing: Listing, folders: list[Folder], base: Folder, ignored: IgnoredFiles, *, has_splits: bool
) -> dict[Split, Listing]:
    """Sort the pictures into splits and classes by the folders that they lie in."""
    places = [_place(folder, base, has_splits=has_splits) for folder in folders]
    is_sorted = any(split == "val" for split, _ in places)
    for position, (folder, count) in enumerate(zip(folders, listing.count().tolist(), strict=True)):
        if count and not places[position][1]:
            split = guess_split(list(folder))
            check(
                is_sorted or folder != (*base, "val"),
                f"{path} holds {count:,} files in {'/'.join(folder)}/, and nothing says what they show: sort them into "
                "val/CLASS/NAME.JPEG",
            )
            first = listing.rows["name"][listing.rows["label"] == position][0].decode()
            ignored.add(split, "/".join(folder) or path.name, "files outside of class folders", first, count=count)
    splits: dict[Split, Listing] = {}
    for split in SPLITS:
        if classes := sorted({name for part, name in places if part == split}):
            splits[split] = listing.regroup([name if part == split else "" for part, name in places], classes)
    return splits


def _place(folder: Folder, base: Folder, *, has_splits: bool) -> tuple[str, str]:
    """Split and class of a folder; both empty if it is no class folder."""
    if has_splits and len(folder) > 1 and folder[:-2] == base and folder[-2] in SPLITS:
        return folder[-2], folder[-1]
    if not has_splits and folder and folder[:-1] == base:
        return "train", folder[-1]
    return "", ""
