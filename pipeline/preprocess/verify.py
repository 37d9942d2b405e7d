"""Proof that a shard set is what its `dataset.json` describes: checksums, and every picture decoded if one asks."""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import MEAN_IMAGE, ShardInfo, ShardSet, Split, compare_file, read_shard_set, to_json, to_npy
from pipeline.errors import InputError
from pipeline.options import Encoding, VerifyConfig
from pipeline.preprocess.encodings import EXTENSIONS, decode_pixels
from pipeline.preprocess.statistics import PixelSums
from pipeline.preprocess.workers import build_bar, count_images, run_in_workers

DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A file of the set that is not as described, and the shard that it belongs to, if it does."""

    file: str
    found: str
    shard: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyTask:
    """One shard to prove."""

    folder: Path
    split: Split
    shard: ShardInfo
    encoding: Encoding
    side: int
    deep: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFindings:
    """What was wrong with a shard, and, where all was decoded and well, the sums of its pixels."""

    split: Split
    problems: tuple[Problem, ...]
    sums: PixelSums | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What `verify` found in all."""

    path: str
    digest: str
    deep: bool
    num_images: int
    problems: tuple[Problem, ...]


def verify(config: VerifyConfig) -> bool:
    """Print what is wrong with a shard set, for people or as JSON; returns whether nothing is.

    Raises:
        InputError: there is no finished shard set, or `dataset.json` itself is damaged.
    """
    shard_set = read_shard_set(config.shards)
    problems = find_problems(shard_set, deep=config.deep, num_workers=config.workers)
    num_images = sum(split.num_images for split in shard_set.info.splits.values())
    if config.json:
        verdict = Verdict(
            path=str(config.shards),
            digest=shard_set.info.digest,
            deep=config.deep,
            num_images=num_images,
            problems=problems,
        )
        print(to_json(verdict).decode())
        return not problems
    for problem in problems:
        print(f"{config.shards}/{problem.file} {problem.found}")
    if problems:
        print(
            f"verify: {len(problems)} problems: mend them with `alexnet preprocess repair {config.shards} --source ...`"
        )
    else:
        how = "each decoded" if config.deep else "each file as it was written"
        print(f"verify: {num_images:,} pictures, {how}, digest {shard_set.info.digest[:12]}: all is well")
    return not problems


def find_problems(shard_set: ShardSet, *, deep: bool, num_workers: int) -> tuple[Problem, ...]:
    """Compare every file with its SHA-256.

    Args:
        shard_set: whose `dataset.json` was proved by reading it.
        deep: decode every picture, too, compare tars with their indexes, and compute the statistics again.
        num_workers: processes.
    """
    info = shard_set.info
    problems = [
        Problem(file=name, found=found)
        for name, sha256 in info.files.items()
        if (found := compare_file(shard_set.path / name, sha256))
    ]
    sums = PixelSums.empty(info.packing.pixels)
    for findings in verify_shards(shard_set, tuple(info.splits), deep=deep, num_workers=num_workers):
        problems += findings.problems
        if findings.split == "train" and findings.sums:
            sums.merge(findings.sums)
    if deep and sums.num_images == info.splits["train"].num_images:
        problems += compare_statistics(shard_set, sums)
    return tuple(sorted(problems, key=lambda problem: problem.file))


def sum_pixels(shard_set: ShardSet, *, num_workers: int) -> PixelSums:
    """Sums over the stored training pictures.

    Raises:
        InputError: a shard is damaged.
    """
    sums = PixelSums.empty(shard_set.info.packing.pixels)
    for findings in verify_shards(shard_set, ("train",), deep=True, num_workers=num_workers):
        for problem in findings.problems:
            raise InputError(f"{shard_set.path}/{problem.file} {problem.found}: repair it first")
        assert findings.sums is not None
        sums.merge(findings.sums)
    return sums


def verify_shards(
    shard_set: ShardSet, splits: Sequence[Split], *, deep: bool, num_workers: int
) -> Iterator[ShardFindings]:
    """Prove shards in worker processes, with a progress bar; yields as they are done."""
    packing = shard_set.info.packing
    tasks = [
        VerifyTask(
            folder=shard_set.path / split,
            split=split,
            shard=shard,
            encoding=packing.encoding,
            side=packing.pixels,
            deep=deep,
        )
        for split in splits
        for shard in shard_set.info.splits[split].shards
    ]
    bar = build_bar("verify", total=sum(task.shard.num_images for task in tasks), initial=0)
    with closing(run_in_workers(verify_shard, tasks, num_workers=num_workers, bar=bar)) as results:
        yield from results


def compare_statistics(shard_set: ShardSet, sums: PixelSums) -> Iterator[Problem]:
    """Compare the statistics with those of the stored pixels."""
    mean_image = hashlib.sha256(to_npy(sums.compute_mean_image())).hexdigest()
    if mean_image != shard_set.info.files[MEAN_IMAGE]:
        yield Problem(file="dataset.json", found="describes a mean image that is not that of the stored pictures")
    if not np.allclose(sums.compute_color_components().covariance, shard_set.info.color.covariance, rtol=1e-9):
        yield Problem(file="dataset.json", found="describes colours that are not those of the stored pictures")


def verify_shard(task: VerifyTask) -> ShardFindings:
    """Prove one shard; runs in a worker."""
    shard, problems = task.shard, []
    for suffix, sha256 in ((".tar", shard.sha256), (".npy", shard.index_sha256), (".idx", shard.dali_index_sha256)):
        path = task.folder / f"{shard.name}{suffix}"
        if found := compare_file(path, sha256):
            problems.append(Problem(file=f"{task.split}/{path.name}", found=found, shard=shard.name))
    sums = None
    if task.deep and not problems:
        sums = PixelSums.empty(task.side)
        try:
            problems += check_pictures(task, sums)
        except (tarfile.TarError, *DECODING_ERRORS) as error:
            problems.append(_build_problem(task, f"or its index cannot be read ({error})"))
    else:
        count_images(shard.num_images)
    return ShardFindings(split=task.split, problems=tuple(problems), sums=sums if not problems else None)


def check_pictures(task: VerifyTask, sums: PixelSums) -> Iterator[Problem]:
    """Decode all pictures of a shard as a reader of the tar would, and compare tar and index."""
    path = task.folder / f"{task.shard.name}.tar"
    index = np.load(path.with_suffix(".npy"))
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        if len(members) != 2 * len(index):
            yield _build_problem(task, f"holds {len(members)} files, expected 2 for each of {len(index)} pictures")
            return
        for row, picture, label in zip(index, members[::2], members[1::2], strict=True):
            if found := check_picture(task, row, picture, _read(tar, picture), label, _read(tar, label), sums=sums):
                yield _build_problem(task, f"holds {picture.name} at byte {picture.offset_data}, which {found}")
            count_images()


def check_picture(
    task: VerifyTask,
    row: Any,
    picture: tarfile.TarInfo,
    encoded: bytes,
    label: tarfile.TarInfo,
    label_text: bytes,
    *,
    sums: PixelSums,
) -> str | None:
    """What is wrong with a picture, None if nothing is; then its pixels are added to `sums`."""
    key = row["key"].decode()
    if (picture.name, label.name) != (f"{key}.{EXTENSIONS[task.encoding]}", f"{key}.cls"):
        return f"the index calls {key}"
    if (picture.offset_data, picture.size) != (row["offset"], row["size"]):
        return f"the index has at byte {row['offset']}"
    if label_text != str(row["label"]).encode():
        return f"has the label {label_text!r}, in the index {row['label']}"
    try:
        pixels = decode_pixels(encoded, task.encoding)
    except DECODING_ERRORS as error:
        return f"cannot be decoded ({error})"
    if pixels.shape != (task.side, task.side, 3):
        return f"has shape {pixels.shape}, expected ({task.side}, {task.side}, 3)"
    sums.add_image(pixels)
    return None


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def _build_problem(task: VerifyTask, found: str) -> Problem:
    return Problem(file=f"{task.split}/{task.shard.name}.tar", found=found, shard=task.shard.name)
