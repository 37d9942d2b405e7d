"""A GPU makes batches faster, never different beyond the rounding of its JPEG decoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from augment_oracle import CPU, build_world
from augment_sets import copy_set, harm

from pipeline.artifacts import ShardSet, read_shard_set
from pipeline.augment.loader import BatchFormat, EvaluationLoader, TrainLoader
from pipeline.config import AugmentConfig
from pipeline.experiments import AUGMENTATIONS
from pipeline.options import LoadingConfig, PreprocessConfig
from pipeline.preprocess.stage import preprocess

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda", 0)
DECODED_ON_GPU = {"max": 4.0, "mean": 0.5}  # grey levels
DECODED_ALIKE = {"max": 0.01, "mean": 0.001}
LEVELS_PER_STD = 58.0  # of `modern`, whose batches are in standard deviations
CONFIGS = AUGMENTATIONS | {
    "gray": replace(AUGMENTATIONS["none"], gray=True, resize_pixels=100),
    "boxes with their mean": replace(AUGMENTATIONS["modern"], mean="cropped"),
}


@pytest.fixture(scope="module")
def raw_set(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """The pictures of `shard_set`, raw. Read only."""
    out = tmp_path_factory.mktemp("raw") / "set"
    preprocess(PreprocessConfig(source=pictures, out=out, images_per_shard=20, workers=2, encoding="raw"))
    return read_shard_set(out)


def build_train(
    shard_set: ShardSet,
    config: AugmentConfig,
    device: torch.device,
    *,
    loading: LoadingConfig = LoadingConfig(num_threads=2),  # noqa: B008 - frozen
    batch_format: BatchFormat = BatchFormat(),  # noqa: B008 - frozen
) -> TrainLoader:
    return TrainLoader(
        shard_set,
        config,
        global_batch_size=8,
        seed=0,
        world=build_world(device=device),
        loading=loading,
        batch_format=batch_format,
    )


def assert_alike(found: torch.Tensor, expected: torch.Tensor, config: AugmentConfig, tolerance: dict[str, float]):
    assert found.device == CUDA
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    difference = (found.cpu() - expected).abs() * (LEVELS_PER_STD if config.pixel_scale == "std" else 1)
    assert difference.max() <= tolerance["max"]
    assert difference.mean() <= tolerance["mean"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("stored", "decoder", "tolerance"),
    [("jpeg", "mixed", DECODED_ON_GPU), ("jpeg", "cpu", DECODED_ALIKE), ("raw", "auto", DECODED_ALIKE)],
)
def test_training_batches_on_cuda_are_those_on_the_cpu(shard_set, raw_set, stored, decoder, tolerance, name):
    config, source = CONFIGS[name], {"jpeg": shard_set, "raw": raw_set}[stored]
    loading = LoadingConfig(num_threads=2, decoder=decoder)
    found = list(build_train(source, config, CUDA, loading=loading).run(3, 9))
    for batch, other in zip(found, build_train(source, config, CPU).run(3, 9), strict=True):
        assert batch.positions.tolist() == other.positions.tolist()
        assert batch.labels.tolist() == other.labels.tolist()
        assert_alike(batch.images, other.images, config, tolerance)


@pytest.mark.parametrize("views", ["center", "ten"])
@pytest.mark.parametrize("name", CONFIGS)
def test_evaluation_batches_on_cuda_are_those_on_the_cpu_run_after_run(shard_set, name, views):
    config = CONFIGS[name]
    loaders = [
        EvaluationLoader(
            shard_set,
            config,
            "val",
            views,
            batch_size=60,
            world=build_world(device=device),
            loading=LoadingConfig(num_threads=2),
        )
        for device in (CUDA, CPU)
    ]
    for _ in range(2):
        for batch, other in zip(*(loader.run() for loader in loaders), strict=True):
            assert_alike(batch.images, other.images, config, DECODED_ON_GPU)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_on_cuda_are_the_rounded_floats_channels_last(raw_set, dtype):
    config = CONFIGS["source"]
    batch_format = BatchFormat(dtype=dtype, channels_last=True)
    found = list(build_train(raw_set, config, CUDA, batch_format=batch_format).run(0, 4))
    for batch, other in zip(found, build_train(raw_set, config, CUDA).run(0, 4), strict=True):
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch.images, other.images.to(dtype))


def test_batches_that_are_kept_stay_as_they_are_while_others_are_loaded(shard_set):
    batches = list(build_train(shard_set, CONFIGS["source"], CUDA).run(0, 40))
    again = build_train(shard_set, CONFIGS["source"], CUDA).run(0, 40)
    assert all(torch.equal(batch.images, other.images) for batch, other in zip(batches, again, strict=True))


def test_a_damaged_picture_is_left_out_on_cuda_too(shard_set, tmp_path):
    damaged = copy_set(shard_set, tmp_path / "set")
    harm(damaged, "train", [7])
    loading = LoadingConfig(num_threads=2, on_damaged="skip")
    batches = list(build_train(damaged, CONFIGS["paper"], CUDA, loading=loading).run(0, 6))
    assert sorted(np.concatenate([batch.positions for batch in batches]).tolist()) == [*range(7), *range(8, 48)]
    assert sum(batch.num_skipped for batch in batches) == 1
