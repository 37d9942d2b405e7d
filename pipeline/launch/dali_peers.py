"""DALI without us: its own reader and its own generators, around the very graph that our loader runs."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from nvidia.dali import fn, types
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipeline.artifacts import ShardSet
from pipeline.augment.color import build_color_statistics
from pipeline.augment.dali import NUM_BATCHES_KEPT, Box, Graph, build_patch, build_pipeline, cut, decode
from pipeline.augment.draws import TrainSampler, compute_normalization

START_SEED, MIRROR_SEED, COLOR_SEED = 1, 2, 3
"""Equal seeds give equal streams, and DALI's default ones depend on the shape of the graph."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Pictures, our loader's graph and our loader's order."""

    shard_set: ShardSet
    graph: Graph
    sampler: TrainSampler


class Patches(NamedTuple):
    """Nodes of a graph: images (3, side, side) float32, and what they were made of.

    `samples` is what the shards hold; `start` (2,) top and left; `mirror` 0 or 1; `shift` (3,) on the 0-255 scale.
    """

    images: Any
    samples: Any
    start: Any
    mirror: Any
    shift: Any


Connect = Callable[[Source], tuple[Any, ...]]
"""Builds nodes inside a pipeline's `with`; the first of them is the output."""


def connect_reader(source: Source) -> Patches:
    """DALI's reader, shuffled within its default buffer of 1,024 samples; DALI's draws."""
    return augment(source, read_plainly(source, shuffle=True))


def connect_ordered(source: Source) -> Patches:
    """Our reading and order; DALI's draws."""
    split, kept = source.shard_set.open_split("train"), deque[list[Any]](maxlen=NUM_BATCHES_KEPT)

    def read_batch(step: int) -> list[Any]:
        kept.append([split.read(int(position)) for position in source.sampler.select(step)])
        return kept[-1]

    samples = fn.external_source(
        source=read_batch,
        no_copy=True,
        batch=True,
        dtype=types.UINT8,
        ndim=3 if split.is_raw else 1,
        layout="HWC" if split.is_raw else "",
    )
    return augment(source, samples)


def connect_decoder(source: Source, *, patches: bool) -> tuple[Any]:
    """DALI's reader and decoder alone: random patches or whole pictures, uint8."""
    samples = read_plainly(source, shuffle=False)
    return (cut(source.graph, samples, draw_box(source.graph)) if patches else decode(source.graph, samples),)


def read_plainly(source: Source, *, shuffle: bool) -> Any:
    """Samples of the training split by DALI's reader of tars with their indexes; labels are left unread."""
    folder = source.shard_set.path / "train"
    names = [shard.name for shard in source.shard_set.info.splits["train"].shards]
    samples = fn.readers.webdataset(
        paths=[str(folder / f"{name}.tar") for name in names],
        index_paths=[str(folder / f"{name}.idx") for name in names],
        ext="npy" if source.graph.raw else "jpg",
        random_shuffle=shuffle,
        seed=0,
    )
    return fn.reshape(fn.decoders.numpy(samples), layout="HWC") if source.graph.raw else samples


def draw_box(graph: Graph) -> Box:
    """A random patch; `uniform` over a range would round, and reach one offset too many."""
    offsets = list(range(graph.config.num_offsets))
    start = fn.random.uniform(values=offsets, shape=[2], dtype=types.INT32, seed=START_SEED)
    return start, [graph.config.crop_pixels] * 2


def augment(source: Source, samples: Any) -> Patches:
    """The source's training patches, drawn by DALI and built as our loader's are."""
    graph, config = source.graph, source.graph.config
    assert (config.crop, config.mean, config.gray, config.flip) == ("random", "centered", False, True)
    statistics = build_color_statistics(source.shard_set.info.color, config)
    box, mirror = draw_box(graph), fn.random.coin_flip(dtype=types.INT32, seed=MIRROR_SEED)
    coefficients = fn.random.normal(stddev=config.color_coefficient_std, shape=[3], seed=COLOR_SEED)
    shift = fn.reductions.sum(types.Constant(statistics.axes.astype(np.float32)) * coefficients, axes=[1])
    divisor = (compute_normalization(config, statistics)[1] * config.color_divisor).tolist()
    images = build_patch(graph, samples, box, mirror=mirror, offset=shift, divisor=divisor)
    return Patches(images=images, samples=samples, start=box[0], mirror=mirror, shift=shift)


def run_pipeline(source: Source, connect: Connect) -> Iterator[Tensor]:
    """Yield the first node of what `connect` builds, batch after batch without end, on the graph's device."""
    pipeline = build_pipeline(source.graph, source.sampler.batch_size)
    with pipeline:
        pipeline.set_outputs(connect(source)[0])
    pipeline.build()
    stream = torch.cuda.current_stream(source.graph.device) if source.graph.on_gpu else None
    while True:
        (output,) = pipeline.run(stream)
        yield from_dlpack(output.as_tensor())
