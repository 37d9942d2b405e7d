"""The peers of the benchmark do the work that our loader does, against the same oracle."""

import multiprocessing
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import torch
from augment_oracle import CPU, LOADING, TOLERANCE, build_world, cut_patch, decode, measure_error, read_pictures
from augment_sets import COLORFUL, build_train, pack_set

from pipeline.artifacts import ShardSet
from pipeline.augment.color import build_color_statistics
from pipeline.augment.dali import build_pipeline
from pipeline.augment.loader import BatchFormat, build_graph
from pipeline.launch import dali_peers, loader_peers

PRELOAD = ("pipeline.launch.loader_peers",)
SIDE, DIVISOR = 24, 1.1
NUM_STEPS = 8
"""48 pictures in batches of 8: an epoch, and the beginning of the next."""
CUTS = [
    ("jpeg", loader_peers.cut_with_pillow),
    ("jpeg", loader_peers.cut_with_torchvision),
    ("raw", loader_peers.cut_pixels),
]


@pytest.fixture(scope="module")
def shard_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardSet]:
    """48 training pictures of 32x32, as JPEG and raw. Read only."""
    folder = tmp_path_factory.mktemp("peers")
    return {encoding: pack_set(folder / encoding, num_val=2, encoding=encoding) for encoding in ("jpeg", "raw")}


def build_source(shard_set: ShardSet) -> dali_peers.Source:
    graph = build_graph(shard_set, COLORFUL, LOADING, build_world(), BatchFormat())
    return dali_peers.Source(shard_set=shard_set, graph=graph, sampler=build_train(shard_set).sampler)


def run_graph(source: dali_peers.Source, connect: dali_peers.Connect, num_batches: int) -> list[list[list[np.ndarray]]]:
    """Every node that `connect` builds, sample by sample: batches of nodes of samples."""
    pipeline = build_pipeline(source.graph, source.sampler.batch_size)
    with pipeline:
        pipeline.set_outputs(*connect(source))
    return [
        [[np.array(sample) for sample in node] for node in pipeline.run()]  # their memory is used again
        for _ in range(num_batches)
    ]


@pytest.mark.parametrize(("stored", "cut"), CUTS)
def test_a_data_loader_s_batches_are_what_the_formula_says(shard_sets, stored, cut):
    shard_set = shard_sets[stored]
    sampler, mean_image = build_train(shard_set).sampler, shard_set.read_mean_image()
    batches = loader_peers.run_data_loader(
        shard_set, COLORFUL, cut, sampler=sampler, num_workers=2, world=build_world()
    )
    labels, mirrors = shard_set.open_split("train").labels, set()
    with closing(batches):
        for step, (images, found) in zip(range(NUM_STEPS), batches, strict=False):
            positions, draws = sampler.select(step), sampler.draw(step)
            assert images.dtype == torch.float32
            assert found.tolist() == labels[positions].tolist()
            for index, position in enumerate(positions):
                patch = cut_patch(
                    decode(shard_set, "train", position),
                    mean_image,
                    COLORFUL,
                    top=draws.starts[index, 0],
                    left=draws.starts[index, 1],
                    mirror=bool(draws.mirrors[index]),
                    shift=draws.color_shifts[index].astype(np.float64),
                    divisor=DIVISOR,
                )
                assert measure_error(images[index], patch, DIVISOR) < TOLERANCE
            mirrors |= set(draws.mirrors.tolist())
    assert mirrors == {0, 1}
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("stored", "cut"), CUTS)
def test_a_data_loader_s_batches_are_those_of_our_loader(shard_sets, stored, cut):
    loader = build_train(shard_sets[stored])
    peer = loader_peers.run_data_loader(
        shard_sets[stored], COLORFUL, cut, sampler=loader.sampler, num_workers=1, world=build_world()
    )
    with closing(peer):
        for batch, (images, labels) in zip(loader.run(0, NUM_STEPS), peer, strict=False):
            torch.testing.assert_close(images, batch.images, rtol=0, atol=TOLERANCE)
            assert torch.equal(labels, batch.labels)


def test_a_whole_batch_is_normalized_as_picture_by_picture(shard_sets):
    draws = build_train(shard_sets["jpeg"]).sampler.draw(0)
    generator = torch.Generator().manual_seed(3)
    patches = torch.randint(256, (8, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)
    mean = torch.rand(3, SIDE, SIDE, generator=generator) * 255
    whole = loader_peers.normalize_batch(patches, mean, draws)
    assert whole.is_contiguous()
    torch.testing.assert_close(whole, loader_peers.normalize_in_turn(patches, mean, draws), rtol=0, atol=1e-5)


@pytest.mark.parametrize("stored", ["jpeg", "raw"])
@pytest.mark.parametrize("connect", [dali_peers.connect_reader, dali_peers.connect_ordered])
def test_dali_alone_builds_the_same_patches_from_its_own_draws(shard_sets, stored, connect):
    shard_set = shard_sets[stored]
    source, mean_image = build_source(shard_set), shard_set.read_mean_image()
    split = shard_set.open_split("train")
    positions = {split.read(position).tobytes(): position for position in range(len(split))}
    seen = []
    for images, samples, starts, mirrors, shifts in run_graph(source, connect, NUM_STEPS):
        for image, sample, start, mirror, shift in zip(images, samples, starts, mirrors, shifts, strict=True):
            seen.append(positions[sample.tobytes()])
            patch = cut_patch(
                decode(shard_set, "train", seen[-1]),
                mean_image,
                COLORFUL,
                top=start[0],
                left=start[1],
                mirror=bool(mirror),
                shift=shift.astype(np.float64),
                divisor=DIVISOR,
            )
            assert measure_error(torch.from_numpy(image), patch, DIVISOR) < TOLERANCE
    ours = np.concatenate([source.sampler.select(step) for step in range(NUM_STEPS)])
    assert (seen == ours.tolist()) == (connect is dali_peers.connect_ordered)
    assert len(set(seen)) > 20


def test_dali_s_own_draws_are_spread_as_ours(shard_sets):
    source = build_source(shard_sets["jpeg"])
    batches = run_graph(source, lambda source: dali_peers.connect_reader(source)[2:], 100)
    starts, mirrors, shifts = (np.concatenate(samples) for samples in zip(*batches, strict=True))
    counts = np.stack([np.bincount(column, minlength=COLORFUL.num_offsets) for column in starts.T])
    assert counts.shape == (2, COLORFUL.num_offsets)  # 0 to 8, nothing beyond
    assert counts.min() > 0.5 * counts.mean()
    assert abs(mirrors.mean() - 0.5) < 0.1
    axes = build_color_statistics(shard_sets["jpeg"].info.color, COLORFUL).axes
    wanted = COLORFUL.color_coefficient_std**2 * axes @ axes.T
    np.testing.assert_allclose(np.cov(shifts.T), wanted, atol=0.2 * wanted.max())


def test_the_bare_decoder_decodes_every_picture_as_it_is_stored(shard_sets):
    source = build_source(shard_sets["jpeg"])
    batches = dali_peers.run_pipeline(source, partial(dali_peers.connect_decoder, patches=False))
    found = np.concatenate([next(batches).numpy().copy() for _ in range(6)])
    np.testing.assert_array_equal(found, np.stack(read_pictures(shard_sets["jpeg"].path / "train")))
    patch = next(dali_peers.run_pipeline(source, partial(dali_peers.connect_decoder, patches=True)))
    assert (patch.shape, patch.dtype, patch.device) == ((8, SIDE, SIDE, 3), torch.uint8, CPU)
