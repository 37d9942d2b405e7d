"""The plan: which picture goes into which shard. Decided once, kept beside the shards, the same for every worker."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import features

from pipeline.artifacts import (
    REPAIR_ADVICE,
    SPLITS,
    WORK_FOLDER,
    ClassInfo,
    Split,
    compare_file,
    read_format_version,
    read_json,
    to_npy,
    write_bytes,
    write_json,
)
from pipeline.errors import check
from pipeline.options import Layout, PackingConfig
from pipeline.preprocess.content import locate_container
from pipeline.preprocess.images import Recipe
from pipeline.preprocess.ledger import LedgerEntry
from pipeline.preprocess.listing import Container, Rows
from pipeline.preprocess.sources import Source, read_source
from pipeline.provenance import read_tool_versions

PLAN_VERSION = 1
PLAN_FOLDER = "plan"
PLAN_FILE = f"{PLAN_FOLDER}/plan.json"
MAX_IMAGES_PER_SHARD, MIN_IMAGES_PER_SHARD, WANTED_SHARDS = 5000, 64, 64
OPTIONAL_DECODERS = ("webp", "libtiff", "jpg_2000", "avif", "littlecms2")
"""What Pillow is built with or not, so that one node would drop what another one reads."""
TOOLS_THAT_SHAPE_BYTES = ("pillow-simd", "pillow", "numpy")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedSplit:
    """How many pictures there are, how they are cut into shards, and the SHA-256 of their index."""

    num_images: int
    images_per_shard: int
    index_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedShard:
    """One shard: its number among all, and the rows `first` to `last` (exclusive) of its split's index."""

    number: int
    split: Split
    name: str
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`plan/plan.json`; beside it an index a split, `plan/SPLIT.npy`, a row a picture in the order of the shards."""

    format_version: int
    packing: PackingConfig
    layout: Layout
    complete: bool
    classes: tuple[ClassInfo, ...]
    containers: tuple[Container, ...]
    splits: dict[Split, PlannedSplit]
    ignored: tuple[LedgerEntry, ...]
    tools: dict[str, str]

    @property
    def recipe(self) -> Recipe:
        """What is done to each picture."""
        packing = self.packing
        return Recipe(side=packing.pixels, resize=packing.resize, encoding=packing.encoding, quality=packing.quality)

    @property
    def num_images(self) -> int:
        """Pictures of all splits."""
        return sum(split.num_images for split in self.splits.values())

    @cached_property
    def shards(self) -> tuple[PlannedShard, ...]:
        """All shards, split by split."""
        return tuple(self._list_shards())

    def _list_shards(self) -> Iterator[PlannedShard]:
        number = 0
        for split, planned in self.splits.items():
            for index, first in enumerate(range(0, planned.num_images, planned.images_per_shard)):
                last = min(first + planned.images_per_shard, planned.num_images)
                yield PlannedShard(number=number, split=split, name=f"{split}-{index:06d}", first=first, last=last)
                number += 1


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenPlan:
    """A plan on disk, its indexes mapped rather than read, so that memory does not grow with the pictures."""

    plan: Plan
    _indexes: dict[Split, Rows]
    _stamps: dict[Split, npt.NDArray[np.int64]]

    def read_rows(self, shard: PlannedShard) -> Rows:
        """The pictures of a shard in their order, with the times at which their files were last changed."""
        index = self._indexes[shard.split][shard.first : shard.last]
        rows = np.empty(len(index), [*index.dtype.descr, ("stamp", "<i8")])
        for name in index.dtype.names or ():
            rows[name] = index[name]
        stamps = self._stamps.get(shard.split)
        rows["stamp"] = -1 if stamps is None else stamps[shard.first : shard.last]
        return rows


def read_tools() -> dict[str, str]:
    """Versions of what decides the stored bytes."""
    return read_tool_versions(TOOLS_THAT_SHAPE_BYTES) | {
        "libjpeg-turbo": features.version_feature("libjpeg_turbo") or "",
        "zlib": features.version_codec("zlib") or "",
        "decoders": ", ".join(name for name in OPTIONAL_DECODERS if features.check(name)),
    }


def find_plan(out: Path) -> Plan | None:
    """The plan that was begun at `out`, if there is a whole one.

    Raises:
        InputError: it belongs to another version.
    """
    file = out / PLAN_FILE
    if not file.is_file() or not _container_stamps_path(out).is_file():
        return None
    return read_plan(out)


def read_plan(out: Path) -> Plan:
    """Read the plan of a shard set.

    Raises:
        InputError: it is missing, damaged or of another version.
    """
    file = out / PLAN_FILE
    check(file.is_file(), f"{file} does not exist: restore it, or remove {out} and begin anew")
    found = read_format_version(file)
    check(found == PLAN_VERSION, f"{file} has format {found}, expected {PLAN_VERSION}: remove {out} and begin anew")
    return read_json(file, Plan)


def write_plan(source: Source, packing: PackingConfig, *, root: Path, out: Path) -> Plan:
    """Shuffle each split once, globally, cut it into shards, and write all that down; `plan.json` comes last."""
    splits = {split: _write_index(out, split, rows, packing) for split, rows in source.splits.items()}
    stamps = read_container_stamps(root, source.containers)
    write_json(_container_stamps_path(out), stamps)
    plan = Plan(
        format_version=PLAN_VERSION,
        packing=packing,
        layout=source.layout,
        complete=source.complete,
        classes=source.classes,
        containers=source.containers,
        splits=splits,
        ignored=source.ignored,
        tools=read_tools(),
    )
    write_json(out / PLAN_FILE, plan)
    return plan


def _write_index(out: Path, split: Split, rows: Rows, packing: PackingConfig) -> PlannedSplit:
    order = np.random.default_rng([packing.seed, SPLITS.index(split)]).permutation(len(rows))
    shuffled = rows[order]
    columns: list[Any] = [field for field in rows.dtype.descr if field[0] != "stamp"]
    index = np.empty(len(rows), columns)
    for name in index.dtype.names or ():
        index[name] = shuffled[name]
    content = to_npy(index)
    write_bytes(out / PLAN_FOLDER / f"{split}.npy", content)
    write_bytes(_stamps_path(out, split), to_npy(shuffled["stamp"].astype(np.int64)))
    wanted = min(MAX_IMAGES_PER_SHARD, max(MIN_IMAGES_PER_SHARD, math.ceil(len(rows) / WANTED_SHARDS)))
    return PlannedSplit(
        num_images=len(rows),
        images_per_shard=packing.images_per_shard or wanted,
        index_sha256=hashlib.sha256(content).hexdigest(),
    )


def _stamps_path(out: Path, split: Split) -> Path:
    return out / WORK_FOLDER / f"stamps-{split}.npy"


def _container_stamps_path(out: Path) -> Path:
    return out / WORK_FOLDER / "containers.json"


def open_plan(out: Path) -> OpenPlan:
    """Map the indexes of the plan at `out`.

    Raises:
        InputError: a file of it is missing or damaged.
    """
    plan = read_plan(out)
    indexes, stamps = {}, {}
    for split, planned in plan.splits.items():
        path = out / PLAN_FOLDER / f"{split}.npy"
        found = compare_file(path, planned.index_sha256)
        check(found is None, f"{path} {found}: {REPAIR_ADVICE}")
        indexes[split] = np.load(path, mmap_mode="r")
        if _stamps_path(out, split).is_file():
            stamps[split] = np.load(_stamps_path(out, split), mmap_mode="r")
    return OpenPlan(plan=plan, _indexes=indexes, _stamps=stamps)


def begin_plan(source: Path, packing: PackingConfig, out: Path) -> Plan:
    """Look through the source and plan its shards; the same source and flags give the same plan."""
    found = read_source(
        source,
        layout=packing.layout,
        val_fraction=packing.val_fraction,
        seed=packing.seed,
        allow_partial=packing.allow_partial,
    )
    return write_plan(found, packing, root=source, out=out)


def check_plan_fits(plan: Plan, packing: PackingConfig, out: Path) -> None:
    """Refuse other flags than the shard set at `out` was begun with.

    Raises:
        InputError: one differs.
    """
    begun, wanted = asdict(plan.packing), asdict(packing)
    for name, value in wanted.items():
        flag = f"--{name.replace('_', '-')}"
        check(
            begun[name] == value,
            f"--out {out} was begun with {flag} {begun[name]}, found {flag} {value}: pass the same, or choose another "
            "directory",
        )


def check_tools_fit(plan: Plan, out: Path) -> None:
    """Refuse to pack with other versions than the rest of the set, which may give other bytes.

    Raises:
        InputError: one differs.
    """
    tools = read_tools()
    for name in sorted(tools.keys() | plan.tools.keys()):
        then, now = plan.tools.get(name, "none"), tools.get(name, "none")
        check(
            then == now,
            f"{out} was begun with {name} {then}, found {name} {now}, which may give other bytes: install the "
            "same, or choose another directory",
        )


def read_container_stamps(root: Path, containers: tuple[Container, ...]) -> list[int]:
    """When each archive or folder of the source was last changed, in nanoseconds.

    Raises:
        InputError: one is gone.
    """
    stamps = []
    for container in containers:
        path = locate_container(root, container)
        check(path.exists(), f"{path} does not exist (any more): put it back, or pass the --source that has it")
        stamps.append(path.stat().st_mtime_ns)
    return stamps


def check_source_unchanged(root: Path, plan: Plan, out: Path) -> None:
    """Refuse a source whose archives or folders are not those that were planned.

    Raises:
        InputError: one is gone or was changed.
    """
    begun = json.loads(_container_stamps_path(out).read_bytes())
    for container, then, now in zip(plan.containers, begun, read_container_stamps(root, plan.containers), strict=True):
        check(
            then == now,
            f"{locate_container(root, container)} was changed since the shard set at {out} was begun: put the old "
            "state back (with its time), or remove the shard set and begin anew",
        )
