"""Who is who in a challenge: its development kit's class numbers and ground truths, or Kaggle's tables of the same."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import InputError, check
from pipeline.options import Split
from pipeline.paper import Dataset
from pipeline.preprocess.listing import explain_os_errors, is_hidden, quote_error
from pipeline.preprocess.tars import read_small_tar

WORDNET_ID = re.compile(r"n\d{8}")
KIT_SUFFIXES = ("", ".tar.gz", ".tgz", ".gz", ".tar")
SYNSET_FIELDS = ("WNID", "words", "num_children", "num_train_images")
TRUTH_NAMES: dict[Split, str] = {"val": "validation_ground_truth.txt", "test": "test_ground_truth.txt"}
KAGGLE_SOLUTION, KAGGLE_NAMES = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
KAGGLE_HEADER = ["ImageId", "PredictionString"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """Names of a challenge's files. `prefix` begins those of its pictures, ground truths and fields."""

    dataset: Dataset
    prefix: str
    archives: dict[Split, str]
    kits: tuple[str, ...]


ILSVRC2010 = Challenge(
    dataset="ILSVRC-2010",
    prefix="ILSVRC2010",
    archives={split: f"ILSVRC2010_images_{split}.tar" for split in ("train", "val", "test")},
    kits=("ILSVRC2010_devkit-1.0", "devkit-1.0"),
)
ILSVRC2012 = Challenge(
    dataset="ILSVRC-2012",
    prefix="ILSVRC2012",
    archives={split: f"ILSVRC2012_img_{split}.tar" for split in ("train", "val")},
    kits=("ILSVRC2012_devkit_t12",),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundTruth:
    """WordNet id of every picture of a split by the number in its name: `ILSVRC2012_val_00000123.JPEG` has 123."""

    origin: str
    prefix: str
    class_ids: dict[int, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Synset:
    """A class: WordNet id, words, and the number of its training pictures."""

    id: str
    words: str
    num_train_images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Devkit:
    """A development kit; `synsets` are its low-level ones, the classes of the pictures, in order of their numbers."""

    origin: str
    challenge: Challenge
    synsets: tuple[Synset, ...]
    truths: dict[Split, GroundTruth]


def find_devkit(root: Path, challenge: Challenge) -> Path | None:
    """The kit in a folder, unpacked or not; None if there is none."""
    candidates = (root / f"{kit}{suffix}" for kit in challenge.kits for suffix in KIT_SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def read_devkit(path: Path, challenge: Challenge) -> Devkit:
    """Read a kit, and the test ground truth that may lie in it or beside it.

    Args:
        path: the unpacked folder, or the tar, compressed or not.
        challenge: whose kit it has to be.

    Raises:
        InputError: it is damaged, lacks something, or belongs to another year.
    """
    files = {PurePosixPath(name).name: (f"{path}/{name}", content) for name, content in _read_files(path)}
    check("meta.mat" in files, f"{path} has no data/meta.mat: download the development kit of {challenge.prefix} again")
    origin, content = files["meta.mat"]
    synsets = _read_synsets(content, origin, challenge)
    class_ids = [synset.id for synset in synsets]
    truths: dict[Split, GroundTruth] = {}
    for split, ending in TRUTH_NAMES.items():
        name = f"{challenge.prefix}_{ending}"
        beside = path.parent / name
        if name not in files and beside.is_file():
            with explain_os_errors(beside):
                files[name] = (str(beside), beside.read_bytes())
        if name in files:
            truths[split] = _parse_ground_truth(*files[name], f"{challenge.prefix}_{split}", class_ids)
    return Devkit(origin=str(path), challenge=challenge, synsets=synsets, truths=truths)


def _read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in the kit's `data/`."""
    if path.is_dir():
        with explain_os_errors(path):
            for part in sorted(path.rglob("data/*")):
                if part.is_file() and not is_hidden(part.name):
                    yield part.relative_to(path).as_posix(), part.read_bytes()
        return
    yield from read_small_tar(path, lambda name: PurePosixPath(name).match("data/*") and not is_hidden(name))


def _read_synsets(content: bytes, origin: str, challenge: Challenge) -> tuple[Synset, ...]:
    """The low-level synsets of `meta.mat`, in order of number."""
    from scipy.io import loadmat

    number_field = f"{challenge.prefix}_ID"
    try:
        found = loadmat(io.BytesIO(content), squeeze_me=True, variable_names=["synsets"])["synsets"].reshape(-1)
    except Exception as error:  # scipy raises whatever a damaged file leads it to
        raise InputError(
            f"{origin} is no MATLAB file with synsets ({quote_error(error)}): download the kit again"
        ) from error
    fields = found.dtype.names or ()
    missing = [field for field in (number_field, *SYNSET_FIELDS) if field not in fields]
    check(
        not missing,
        f"{origin}: its synsets have the fields {', '.join(fields)} but not {', '.join(missing)}, so it is not the "
        f"development kit of {challenge.prefix}: put that one there",
    )
    try:
        low_level = found[found["num_children"].astype(int) == 0]
        numbers = low_level[number_field].astype(int).tolist()
        counts = low_level["num_train_images"].astype(int).tolist()
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{origin}: its synsets have no numbers ({quote_error(error)}): download the kit again"
        ) from error
    ids = [str(class_id) for class_id in low_level["WNID"]]
    fitting = {class_id for class_id in ids if WORDNET_ID.fullmatch(class_id)}
    check(
        ids and len(fitting) == len(ids) and sorted(numbers) == list(range(1, len(ids) + 1)),
        f"{origin}: its {len(ids)} synsets without children should have the numbers 1 to {len(ids)} and as many "
        "WordNet ids: download the kit again",
    )
    synsets = {
        number: Synset(id=class_id, words=str(words), num_train_images=count)
        for number, class_id, words, count in zip(numbers, ids, low_level["words"], counts, strict=True)
    }
    return tuple(synsets[number] for number in sorted(synsets))


def _parse_ground_truth(origin: str, content: bytes, prefix: str, class_ids: list[str]) -> GroundTruth:
    """Line i holds the class number of picture i; a blank line within would shift all that follow."""
    lines = content.decode("utf-8-sig", errors="replace").rstrip().splitlines()
    numbers = [int(line) if line.strip().isascii() and line.strip().isdigit() else 0 for line in lines]
    for line, number in enumerate(numbers, 1):
        if not 1 <= number <= len(class_ids):
            raise InputError(
                f"{origin}, line {line}: found {lines[line - 1].strip()[:20]!r}, expected a class number from 1 to "
                f"{len(class_ids)}: download the ground truth again"
            )
    known = {line: class_ids[number - 1] for line, number in enumerate(numbers, 1)}
    return GroundTruth(origin=origin, prefix=prefix, class_ids=known)


def read_kaggle_solution(path: Path) -> GroundTruth:
    """Read Kaggle's ground truth of 2012's validation pictures: name, then class and box of each object.

    Raises:
        InputError: a line does not fit, or names objects of several classes.
    """
    prefix = f"{ILSVRC2012.prefix}_val"
    class_ids: dict[int, str] = {}
    with explain_os_errors(path):
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    try:
        rows = list(csv.reader(lines))
    except csv.Error as error:
        raise InputError(f"{path} is no table ({error}): download it again") from error
    for line, row in enumerate(rows, 1):
        if row and row != KAGGLE_HEADER:
            number = re.fullmatch(rf"{prefix}_(\d{{8}})", row[0])
            class_id, *others = sorted(set(row[-1].split()[::5])) or [""]
            if not number or others or not WORDNET_ID.fullmatch(class_id) or int(number[1]) in class_ids:
                raise InputError(
                    f"{path}, line {line}: found {','.join(row)[:80]!r}, expected {prefix}_ with a number that no "
                    "other line has, and the boxes of one class: download the file again"
                )
            class_ids[int(number[1])] = class_id
    return GroundTruth(origin=str(path), prefix=prefix, class_ids=class_ids)


def read_kaggle_names(path: Path) -> dict[str, str]:
    """Read Kaggle's `LOC_synset_mapping.txt`: words by WordNet id.

    Raises:
        InputError: it cannot be read.
    """
    with explain_os_errors(path), path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = (line.strip().partition(" ") for line in file)
        return {class_id: words for class_id, _, words in lines if WORDNET_ID.fullmatch(class_id)}
