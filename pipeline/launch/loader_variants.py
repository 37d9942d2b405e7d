"""Which loaders `alexnet bench augment` times, with which options."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from pipeline.artifacts import ShardSet
from pipeline.augment.color import build_color_statistics
from pipeline.augment.draws import TrainSampler
from pipeline.augment.loader import BatchFormat, TrainLoader, build_graph
from pipeline.config import AugmentConfig
from pipeline.distributed import World
from pipeline.launch import dali_peers, loader_peers
from pipeline.options import LoadingConfig

EXPERIMENT, SEED = "source-2012", 0
ENDLESS = 10**9
"""Steps, more than any turn takes."""
THREAD_COUNTS, BATCH_SIZES, HW_DECODER_LOADS = (1, 2, 4, 8, 16), (128, 256, 512), (0.0, 0.5, 0.65, 0.8, 1.0)

Stored = Literal["jpeg", "raw"]
"""Which of the two shard sets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A loader with its options, on one of the shard sets."""

    loader: str
    stored: Stored
    batch_size: int
    loading: LoadingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is loaded, what is made of it, and where it is wanted."""

    shard_set: ShardSet
    augment: AugmentConfig
    world: World


Open = Callable[[Variant, Setting], Iterator[object]]
"""Starts a loader; yields batch after batch, more than anybody takes."""


def open_ours(variant: Variant, setting: Setting) -> Iterator[object]:
    """This project's loader."""
    loader = TrainLoader(
        setting.shard_set,
        setting.augment,
        global_batch_size=variant.batch_size,
        seed=SEED,
        world=setting.world,
        loading=variant.loading,
    )
    return loader.run(0, ENDLESS)


def build_sampler(variant: Variant, setting: Setting) -> TrainSampler:
    """Order and draws of our loader, for the peers."""
    info = setting.shard_set.info
    return TrainSampler(
        setting.augment,
        build_color_statistics(info.color, setting.augment),
        num_images=info.splits["train"].num_images,
        image_pixels=info.packing.pixels,
        global_batch_size=variant.batch_size,
        seed=SEED,
        world=setting.world,
    )


def open_torch(variant: Variant, setting: Setting, *, cut: loader_peers.Cut) -> Iterator[object]:
    """DataLoader of torch."""
    return loader_peers.run_data_loader(
        setting.shard_set,
        setting.augment,
        cut,
        sampler=build_sampler(variant, setting),
        num_workers=variant.loading.num_threads,
        world=setting.world,
    )


def open_dali(variant: Variant, setting: Setting, *, connect: dali_peers.Connect) -> Iterator[object]:
    """DALI around our graph, or a part of it."""
    source = dali_peers.Source(
        shard_set=setting.shard_set,
        graph=build_graph(setting.shard_set, setting.augment, variant.loading, setting.world, BatchFormat()),
        sampler=build_sampler(variant, setting),
    )
    return dali_peers.run_pipeline(source, connect)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loader:
    """A way to load, what it can read, and what it is for people."""

    open: Open
    stored: tuple[Stored, ...]
    description: str


OURS, PLAIN_DALI = "this loader", "DALI alone"
TORCH = ("DataLoader, Pillow-SIMD", "DataLoader, decode_jpeg", "DataLoader, stored pixels")
LOADERS: dict[str, Loader] = {
    OURS: Loader(open=open_ours, stored=("jpeg", "raw"), description="`TrainLoader`: our order, our draws"),
    TORCH[0]: Loader(
        open=partial(open_torch, cut=loader_peers.cut_with_pillow),
        stored=("jpeg",),
        description="torch's DataLoader on the same shards, with our order and draws; workers hand over uint8",
    ),
    TORCH[1]: Loader(
        open=partial(open_torch, cut=loader_peers.cut_with_torchvision),
        stored=("jpeg",),
        description="the same with `torchvision.io.decode_jpeg`",
    ),
    TORCH[2]: Loader(
        open=partial(open_torch, cut=loader_peers.cut_pixels),
        stored=("raw",),
        description="the same with nothing to decode",
    ),
    PLAIN_DALI: Loader(
        open=partial(open_dali, connect=dali_peers.connect_reader),
        stored=("jpeg", "raw"),
        description="our graph behind DALI's webdataset reader, shuffled in its buffer; DALI draws; no labels",
    ),
    "DALI's draws, our order": Loader(
        open=partial(open_dali, connect=dali_peers.connect_ordered),
        stored=("jpeg", "raw"),
        description="our graph, reading and order; DALI draws, so that no draws are fed",
    ),
    "bare decode, patches": Loader(
        open=partial(open_dali, connect=partial(dali_peers.connect_decoder, patches=True)),
        stored=("jpeg",),
        description="DALI's reader and decoder, random patches, uint8, and nothing else",
    ),
    "bare decode, whole": Loader(
        open=partial(open_dali, connect=partial(dali_peers.connect_decoder, patches=False)),
        stored=("jpeg",),
        description="the same with whole pictures",
    ),
}


def build_variants(
    stored: Sequence[Stored], *, batch_size: int, num_threads: int, num_cores: int, on_gpu: bool
) -> tuple[Variant, ...]:
    """Every loader at the given options, then ours with one option changed at a time.

    Args:
        stored: the shard sets at hand.
        batch_size: of all but the sweep over batch sizes.
        num_threads: of all but the sweep over threads.
        num_cores: the sweep over threads ends here.
        on_gpu: also vary the decoder, its load and the batch size.
    """
    loading = LoadingConfig(num_threads=num_threads, decoder="mixed" if on_gpu else "cpu")
    variants = [
        Variant(loader=name, stored=form, batch_size=batch_size, loading=loading)
        for form in stored
        for name, loader in LOADERS.items()
        if form in loader.stored
    ]
    for base in [variant for variant in variants if variant.loader == OURS]:
        loadings = [replace(loading, num_threads=count) for count in THREAD_COUNTS if count <= num_cores]
        if on_gpu and base.stored == "jpeg":
            loadings += [replace(loading, decoder="cpu")]
            loadings += [replace(loading, hw_decoder_load=load) for load in HW_DECODER_LOADS]
        variants += [replace(base, loading=changed) for changed in loadings]
        variants += [replace(base, batch_size=size) for size in BATCH_SIZES if on_gpu]
    return tuple(dict.fromkeys(variants))
