"""A GPU makes batches faster, never different beyond the rounding of its JPEG decoder."""

import pytest
import torch
from augment_oracle import CPU, LOADING, build_world

from pipeline.augment.loader import EvaluationLoader, TrainLoader
from pipeline.experiments import EXPERIMENTS

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda", 0)


def assert_within_grey_levels(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.device == CUDA
    assert found.shape == expected.shape
    difference = (found.cpu() - expected).abs()
    assert difference.max() <= 4
    assert difference.mean() < 0.5


@pytest.mark.parametrize("name", ["source-2012", "paper"])
def test_training_batches_on_cuda_are_those_on_the_cpu(shard_set, name):
    config = EXPERIMENTS[name].config.augment
    found, expected = (
        list(
            TrainLoader(
                shard_set,
                config,
                global_batch_size=8,
                seed=0,
                world=build_world(device=device),
                loading=LOADING,
            ).run(3, 9)
        )
        for device in (CUDA, CPU)
    )
    for batch, other in zip(found, expected, strict=True):
        assert batch.positions.tolist() == other.positions.tolist()
        assert batch.labels.tolist() == other.labels.tolist()
        assert_within_grey_levels(batch.images, other.images)


@pytest.mark.parametrize("views", ["center", "ten"])
def test_evaluation_batches_on_cuda_are_those_on_the_cpu_run_after_run(shard_set, views):
    config = EXPERIMENTS["paper"].config.augment
    loaders = [
        EvaluationLoader(
            shard_set,
            config,
            "val",
            views,
            batch_size=60,
            world=build_world(device=device),
            loading=LOADING,
        )
        for device in (CUDA, CPU)
    ]
    for _ in range(2):
        for batch, other in zip(*(loader.run() for loader in loaders), strict=True):
            assert_within_grey_levels(batch.images, other.images)
