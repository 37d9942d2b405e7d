"""What a shard set holds, in a few lines for people or as JSON, and a sheet of its pictures."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.artifacts import LEDGER, ShardSet, ShardSplit, Split, read_proved, read_shard_set, to_json, write_bytes
from pipeline.errors import InputError, check
from pipeline.options import InspectConfig, Layout, PackingConfig
from pipeline.preprocess.encodings import decode_pixels
from pipeline.preprocess.ledger import Action
from pipeline.preprocess.pictures import draw_contact_sheet

MAX_NUM_IMAGES = 1000
"""One for each class of ImageNet; a sheet of more is too large for many programs."""
MAX_KINDS = 12
"""Kinds of odd pictures that people are told; JSON has them all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSummary:
    """One split."""

    num_images: int
    num_shards: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCount:
    """A class and its training pictures."""

    id: str
    name: str
    num_images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OddKind:
    """Entries of the ledger that say the same; `file` and `detail` are the first one's."""

    action: Action
    kind: str
    num_entries: int
    file: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A picture on the sheet."""

    key: str
    label: int
    class_id: str
    class_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """The sheet, and what is on it row by row."""

    path: str
    split: Split
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a shard set holds; `rgb_mean` and `rgb_std` are those of the training pixels, on the 0-255 scale."""

    path: str
    layout: Layout
    complete: bool
    splits: dict[Split, SplitSummary]
    packing: PackingConfig
    num_classes: int
    largest_class: ClassCount
    smallest_class: ClassCount
    num_dropped: int
    odd: tuple[OddKind, ...]
    rgb_mean: tuple[float, ...]
    rgb_std: tuple[float, ...]
    digest: str
    sheet: Sheet


def inspect(config: InspectConfig) -> None:
    """Write a sheet of samples, and print what the set holds, for people or as JSON.

    Raises:
        InputError: there is no such shard set or split, something in it is damaged, or the sheet exists.
    """
    check(not config.out.exists(), f"--out {config.out} already exists: remove it or choose another file")
    check(config.out.suffix.lower() == ".png", f"--out {config.out} must end in .png, for the sheet is a PNG")
    check(
        config.num_images <= MAX_NUM_IMAGES,
        f"--num-images must be at most {MAX_NUM_IMAGES}, found {config.num_images}",
    )
    shard_set = read_shard_set(config.shards)
    split = shard_set.open_split(config.split)
    positions = sample_positions(split.labels, config.num_images, seed=config.seed)
    samples = tuple(describe_sample(shard_set, split, position) for position in positions)
    summary = summarize(shard_set, Sheet(path=str(config.out), split=config.split, samples=samples))
    sheet = draw_contact_sheet(
        (read_image(shard_set, split, position) for position in positions),
        ["\n".join(dict.fromkeys((sample.class_id, sample.class_name))) for sample in samples],
        format_heading(summary),
        side=summary.packing.pixels,
    )
    write_bytes(config.out, sheet)
    print(to_json(summary).decode() if config.json else format_summary(summary))


def sample_positions(labels: npt.NDArray[np.int64], num_images: int, *, seed: int) -> list[int]:
    """Choose pictures of as many classes as can be, and of each about the same number.

    Args:
        labels: (N,) int64, of the pictures of a split.
        num_images: how many to choose; where there are fewer, all are.
        seed: decides which.

    Returns:
        Their positions, in order of label.
    """
    lot = np.random.default_rng(seed).random(len(labels))
    shuffled = np.lexsort((lot, labels))
    counts = np.bincount(labels)
    ranks = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[shuffled]]  # 0 for one of each class, then 1
    chosen = shuffled[np.lexsort((lot[shuffled], ranks))[:num_images]]
    positions: list[int] = chosen[np.argsort(labels[chosen], kind="stable")].tolist()
    return positions


def describe_sample(shard_set: ShardSet, split: ShardSplit, position: int) -> Sample:
    """What is known of a picture."""
    label = int(split.labels[position])
    found = shard_set.info.classes[label]
    return Sample(key=split.key(position), label=label, class_id=found.id, class_name=found.name)


def read_image(shard_set: ShardSet, split: ShardSplit, position: int) -> npt.NDArray[np.uint8]:
    """Decode a picture, (side, side, 3) uint8.

    Raises:
        InputError: it is damaged.
    """
    packing, stored = shard_set.info.packing, split.read(position)
    if packing.encoding == "raw":
        return stored
    damaged = (
        f"{split.locate(position)} is damaged, it cannot be decoded: mend it with `alexnet preprocess repair "
        f"{shard_set.path}` and the --source that it was made from"
    )
    try:
        pixels = decode_pixels(stored.tobytes(), packing.encoding)
    except Exception as error:  # on damaged bytes Pillow raises nearly anything
        raise InputError(damaged) from error
    check(pixels.shape == (packing.pixels, packing.pixels, 3), damaged)
    return pixels


def summarize(shard_set: ShardSet, sheet: Sheet) -> Summary:
    """Collect what a shard set holds, besides what is on a sheet of it.

    Raises:
        InputError: the ledger or the training split is damaged.
    """
    info = shard_set.info
    counts = np.bincount(shard_set.open_split("train").labels, minlength=len(info.classes))
    largest, smallest = (
        ClassCount(id=info.classes[label].id, name=info.classes[label].name, num_images=int(counts[label]))
        for label in (counts.argmax(), counts.argmin())
    )
    return Summary(
        path=str(shard_set.path),
        layout=info.layout,
        complete=info.complete,
        splits={
            name: SplitSummary(
                num_images=found.num_images,
                num_shards=len(found.shards),
                size_bytes=sum(shard.size_bytes for shard in found.shards),
            )
            for name, found in info.splits.items()
        },
        packing=info.packing,
        num_classes=len(info.classes),
        largest_class=largest,
        smallest_class=smallest,
        num_dropped=info.num_dropped,
        odd=count_odd_kinds(read_proved(shard_set.path / LEDGER, info.files[LEDGER])),
        rgb_mean=info.color.mean,
        rgb_std=tuple(np.sqrt(np.diag(info.color.covariance)).tolist()),
        digest=info.digest,
        sheet=sheet,
    )


def count_odd_kinds(ledger: bytes) -> tuple[OddKind, ...]:
    """Count the entries of a ledger by what they say, most frequent first."""
    entries = [json.loads(line) for line in ledger.splitlines()]
    kinds = [(entry["action"], generalize(entry["detail"])) for entry in entries]
    firsts = dict(zip(reversed(kinds), reversed(entries), strict=True))
    return tuple(
        OddKind(action=action, kind=kind, num_entries=count, file=first["file"], detail=first["detail"])
        for (action, kind), count in Counter(kinds).most_common()
        for first in [firsts[action, kind]]
    )


def generalize(detail: str) -> str:
    """The kind of an oddity, such as `NxM enlarged`, without what is particular to one picture or folder."""
    detail = re.sub(r", .* first$", "", detail)
    detail = re.sub(r"begins with .*", "begins with …", detail)
    detail = re.sub(r"\b\d+x\d+\b", "NxM", detail)
    return re.sub(r"(?<![\w;.])[1-9]\d*([.,]\d+)*", "N", detail)  # `JPEG2000` and `I;16` are names, and 0 stays 0


def format_heading(summary: Summary) -> str:
    """What stands above all samples: where they are from."""
    split = summary.sheet.split
    return (
        f"{summary.path} {split}: {len(summary.sheet.samples):,} of {summary.splits[split].num_images:,} pictures, "
        f"{summary.num_classes:,} classes, {format_packing(summary.packing)}, digest {summary.digest[:12]}"
    )


def format_packing(packing: PackingConfig) -> str:
    """How pictures are stored, in a few words."""
    quality = f" quality {packing.quality}" if packing.encoding.startswith("jpeg") else ""
    return f"{packing.pixels}×{packing.pixels} {packing.encoding}{quality} ({packing.resize})"


def format_summary(summary: Summary) -> str:
    """The summary for people, a fact each line."""
    whole = "the whole of the official data set" if summary.complete else "partial, or of no official data set"
    mean, std = format_levels(summary.rgb_mean), format_levels(summary.rgb_std)
    facts = [("source", f"{summary.layout}, {whole}"), ("stored", format_packing(summary.packing))]
    for split, found in summary.splits.items():
        size = f"{found.size_bytes / 1e6:,.1f} MB"
        facts.append((split, f"{found.num_images:,} pictures in {found.num_shards:,} shards, {size}"))
    facts += [
        ("classes", f"{summary.num_classes:,}, {format_range(summary.smallest_class, summary.largest_class)}"),
        ("RGB", f"mean {mean}, standard deviation {std}, of 0-255"),
        ("dropped", f"{summary.num_dropped:,}"),
    ]
    for odd in summary.odd[:MAX_KINDS]:
        words = f"{odd.kind} ({odd.file} first)" if odd.num_entries > 1 else f"{odd.detail} ({odd.file})"
        facts.append(("odd", f"{odd.num_entries:,} {odd.action}: {words}"))
    if len(summary.odd) > MAX_KINDS:
        facts.append(("odd", f"{len(summary.odd) - MAX_KINDS:,} other kinds: see {summary.path}/{LEDGER}"))
    sheet = f"{summary.sheet.path}, {len(summary.sheet.samples):,} {summary.sheet.split} pictures"
    facts += [("digest", summary.digest), ("sheet", sheet)]
    return "\n".join(f"{name:<8} {words}" for name, words in facts)


def format_range(smallest: ClassCount, largest: ClassCount) -> str:
    """How many training pictures classes have."""
    if smallest.num_images == largest.num_images:
        return f"each with {smallest.num_images:,} training pictures"
    low, high = (
        f"{found.num_images:,} ({' '.join(dict.fromkeys((found.id, found.name)))})" for found in (smallest, largest)
    )
    return f"with {low} to {high} training pictures"


def format_levels(levels: Sequence[float]) -> str:
    """Grey levels of R, G, B."""
    return " ".join(f"{level:.1f}" for level in levels)
