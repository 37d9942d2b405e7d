"""The preprocess stage: find the pictures, shuffle them once, pack them in parallel, describe the result."""

import hashlib
import io
import math
import multiprocessing
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
import PIL
from PIL import features
from tqdm import tqdm

from pipeline import paper
from pipeline.artifacts import (
    FORMAT_VERSION,
    ShardInfo,
    ShardSetInfo,
    Split,
    SplitInfo,
    mean_image_path,
    write_bytes,
    write_json,
)
from pipeline.errors import InputError, RunError, check
from pipeline.options import PreprocessConfig
from pipeline.preprocess.images import ENCODING, RESIZE
from pipeline.preprocess.ledger import LedgerEntry, write_ledger
from pipeline.preprocess.shards import ShardResult, write_shard
from pipeline.preprocess.sources import SPLITS, LabelledImage, Source, read_source
from pipeline.preprocess.statistics import PixelSums
from pipeline.provenance import PILLOW_ADVICE, is_pillow_simd, read_tool_versions

TOOLS_THAT_SHAPE_BYTES = ("pillow-simd", "pillow", "numpy")

_counter: "Synchronized[int]"


def preprocess(config: PreprocessConfig) -> ShardSetInfo:
    """Pack the pictures below `config.source` into a shard set at `config.out`.

    Raises:
        InputError: the source does not fit, the output exists, or too many pictures are undecodable.
    """
    check_output_free(config.out)
    source = read_source(config.source, val_fraction=config.val_fraction, seed=config.seed)
    total = sum(len(images) for images in source.splits.values())
    counts = ", ".join(f"{len(images):,} {split}" for split, images in source.splits.items())
    num_shards = sum(math.ceil(len(images) / config.images_per_shard) for images in source.splits.values())
    print(
        f"preprocess: {counts} pictures in {len(source.classes):,} classes below {config.source}, "
        f"into {num_shards} shards by {min(config.workers, num_shards)} workers",
        flush=True,
    )
    warn_without_simd()
    claim = claim_output(config.out)
    try:
        results = _write_shards(config, source, total)
        info = _describe(config, source, results)
    except BaseException:  # what lies there is ours alone, and of no use unfinished
        shutil.rmtree(config.out, ignore_errors=True)
        raise
    claim.unlink()
    size = sum(shard.size_bytes for split in info.splits.values() for shard in split.shards)
    kept = sum(split.num_images for split in info.splits.values())
    print(
        f"preprocess: {kept:,} pictures, {size / 1e6:.1f} MB in {config.out}, {info.num_dropped} dropped"
        f"{f' (see {config.out}/ledger.jsonl)' if info.num_dropped else ''}, digest {info.digest[:12]}"
    )
    return info


def check_output_free(out: Path) -> None:
    """Refuse to write into a directory that holds something.

    Raises:
        InputError: it does, or it is a file.
    """
    check(not out.exists() or out.is_dir(), f"--out {out} is a file: choose a directory that does not exist yet")
    if out.is_dir() and any(out.iterdir()):
        whole = (out / "dataset.json").is_file()
        raise InputError(
            f"--out {out} already holds {'a shard set' if whole else 'an unfinished shard set or something else'}: "
            "remove it or choose another directory"
        )


def claim_output(out: Path) -> Path:
    """Make the directory this process's own, so that of two that start at once neither removes the other's work.

    Returns:
        The file that says so, for removal at the end.

    Raises:
        InputError: another process was quicker.
    """
    out.mkdir(parents=True, exist_ok=True)
    claim = out / ".preprocessing"
    try:
        claim.touch(exist_ok=False)
    except FileExistsError as error:
        raise InputError(f"--out {out} is being written by another process: wait for it, or choose another") from error
    return claim


def warn_without_simd() -> None:
    """Say so when plain Pillow is active, which resizes several times slower."""
    if not is_pillow_simd():
        print(
            f"preprocess: warning: plain Pillow {PIL.__version__} is active, slower than Pillow-SIMD: {PILLOW_ADVICE}",
            file=sys.stderr,
        )


def _start_worker(counter: "Synchronized[int]") -> None:
    global _counter  # noqa: PLW0603 - how multiprocessing hands shared memory to a worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends the workers in order
    _counter = counter


def _count_image() -> None:
    with _counter.get_lock():
        _counter.value += 1


def _write_one(
    directory: Path, name: str, split: Split, images: tuple[LabelledImage, ...], side: int
) -> tuple[Split, ShardResult]:
    return split, write_shard(directory, name, split, images, side=side, count_image=_count_image)


def _plan_shards(
    config: PreprocessConfig, source: Source
) -> Iterator[tuple[Path, str, Split, tuple[LabelledImage, ...], int]]:
    """Yield the arguments of each shard: every split in a seeded global shuffle, cut into equal runs."""
    for split, images in source.splits.items():
        order = np.random.default_rng([config.seed, SPLITS.index(split)]).permutation(len(images))
        for number, first in enumerate(range(0, len(images), config.images_per_shard)):
            chosen = tuple(images[position] for position in order[first : first + config.images_per_shard])
            yield config.out / split, f"{split}-{number:06d}", split, chosen, paper.IMAGE_PIXELS


def _write_shards(config: PreprocessConfig, source: Source, total: int) -> list[tuple[Split, ShardResult]]:
    """Write all shards in worker processes, with a progress bar; returns them in the order of the plan."""
    context = multiprocessing.get_context("forkserver")
    counter: Synchronized[int] = context.Value("q", 0)
    executor = ProcessPoolExecutor(config.workers, context, _start_worker, (counter,))
    bar = tqdm(total=total, unit=" images", unit_scale=False, desc="preprocess", disable=None)
    futures: list[Future[tuple[Split, ShardResult]]] = []
    dropped: list[LedgerEntry] = []
    try:
        futures = [executor.submit(_write_one, *arguments) for arguments in _plan_shards(config, source)]
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            bar.update(counter.value - bar.n)
            dropped += [entry for future in done for entry in future.result()[1].entries if entry.action == "dropped"]
            bar.set_postfix(dropped=len(dropped), refresh=False)
            _check_dropped(dropped, total, config.max_dropped)
    except BrokenProcessPool as error:
        raise RunError("a worker process was killed, perhaps for want of memory: try fewer --workers") from error
    except KeyboardInterrupt:
        print("preprocess: stopping when the shards in progress are done", file=sys.stderr, flush=True)
        raise
    finally:
        bar.close()
        executor.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


def _check_dropped(dropped: list[LedgerEntry], total: int, max_dropped: float) -> None:
    if len(dropped) > max_dropped * total:
        first = dropped[0]
        raise InputError(
            f"{len(dropped)} of {total:,} pictures cannot be decoded, {first.file} first ({first.detail}): "
            f"replace them, or allow a larger share than {max_dropped:g} with --max-dropped"
        )


def _describe(config: PreprocessConfig, source: Source, results: list[tuple[Split, ShardResult]]) -> ShardSetInfo:
    """Merge what the shards brought; write statistics, ledger and, last, `dataset.json`."""
    shards: dict[Split, list[ShardInfo]] = {split: [] for split in source.splits}
    sums = PixelSums.empty(paper.IMAGE_PIXELS)
    for split, result in results:
        shards[split] += [result.shard] if result.shard else []
        if split == "train":
            sums.merge(result.sums)
    for split, found in shards.items():
        check(len(found) > 0, f"{config.source}: not one {split} picture could be decoded")
    entries = [entry for _, result in results for entry in result.entries]
    write_ledger(config.out / "ledger.jsonl", entries)
    mean_image = io.BytesIO()
    np.save(mean_image, sums.compute_mean_image())
    write_bytes(mean_image_path(config.out), mean_image.getvalue())
    info = ShardSetInfo(
        format_version=FORMAT_VERSION,
        layout=source.layout,
        classes=source.classes,
        splits={
            split: SplitInfo(num_images=sum(shard.num_images for shard in found), shards=tuple(found))
            for split, found in shards.items()
        },
        num_dropped=sum(entry.action == "dropped" for entry in entries),
        image_pixels=paper.IMAGE_PIXELS,
        encoding=ENCODING,
        resize=RESIZE,
        shuffle_seed=config.seed,
        color=sums.compute_color_components(),
        mean_image_sha256=hashlib.sha256(mean_image.getvalue()).hexdigest(),
        tools=read_tool_versions(TOOLS_THAT_SHAPE_BYTES)
        | {"libjpeg-turbo": features.version_feature("libjpeg_turbo") or ""},
    )
    info = replace(info, digest=info.compute_digest())
    write_json(config.out / "dataset.json", info)
    return info
