"""Steps: their seeds, what they report, and that they learn."""

import dataclasses
import itertools
import math

import pytest
import torch

from pipeline.augment.loader import Batch, TrainLoader
from pipeline.distributed import World
from pipeline.errors import RunError
from pipeline.model.alexnet import build_alexnet
from pipeline.model.layers import MaskDropout
from pipeline.options import LoadingConfig
from pipeline.train.loop import run_steps, seed_step
from pipeline.train.optimizer import build_optimizer, set_rates
from pipeline.train.schedule import Rates

ALONE = World(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))
NUM_CLASSES = 4
CROP_PIXELS = 96


def draw_mask(seed: int, *, step: int, rank: int) -> torch.Tensor:
    seed_step(seed, step=step, rank=rank)
    return MaskDropout(0.5)(torch.ones(1000))


def test_dropout_is_a_function_of_seed_step_and_rank():
    first = draw_mask(3, step=5, rank=1)
    others = [draw_mask(4, step=5, rank=1), draw_mask(3, step=6, rank=1), draw_mask(3, step=5, rank=0)]
    swapped = draw_mask(3, step=1, rank=5)
    assert torch.equal(draw_mask(3, step=5, rank=1), first)
    for other in (*others, swapped):
        assert (first == other).double().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.fixture(scope="module")
def batch(shard_set, small_config) -> Batch:
    """Eight real pictures, smaller than the paper's so that a step takes a moment."""
    augment = dataclasses.replace(small_config.augment, crop_pixels=CROP_PIXELS)
    loader = TrainLoader(
        shard_set, augment, global_batch_size=8, seed=0, world=ALONE, loading=LoadingConfig(num_threads=1)
    )
    (only,) = loader.run(0, 1)
    return Batch(images=only.images.clone(), labels=only.labels, positions=only.positions)


def build_trainee(small_config, *, width: float = 0.25):
    model = dataclasses.replace(small_config.model, dropout=0.0, width=width)
    network = build_alexnet(model, input_pixels=CROP_PIXELS, seed=0)
    return network, build_optimizer(network, small_config.optimizer)


def run(network, optimizer, batch, *, rate: float, num_steps: int, report_every: int):
    set_rates(optimizer, Rates(weights=rate, biases=2 * rate, conv1=rate), lr_in_momentum=True)
    return run_steps(
        network,
        optimizer,
        itertools.repeat(batch),
        first_step=0,
        last_step=num_steps,
        seed=0,
        use_bfloat16=False,
        report_every=report_every,
        world=ALONE,
    )


def test_a_few_pictures_are_learned_by_heart(small_config, batch):
    network, optimizer = build_trainee(small_config, width=0.5)
    reports = list(run(network, optimizer, batch, rate=0.002, num_steps=60, report_every=10))
    assert reports[0].loss > 0.8 * math.log(NUM_CLASSES)
    assert reports[-1].loss < 0.3 * math.log(NUM_CLASSES)
    assert reports[-1].top1_error == 0


def test_reports_are_means_over_the_steps_since_the_last_one(small_config, batch):
    network, optimizer = build_trainee(small_config)
    single = list(run(network, optimizer, batch, rate=0.01, num_steps=5, report_every=1))
    network, optimizer = build_trainee(small_config)
    joined = list(run(network, optimizer, batch, rate=0.01, num_steps=5, report_every=2))
    assert [report.step for report in single] == [1, 2, 3, 4, 5]
    assert [report.step for report in joined] == [2, 4, 5]
    for report, part in zip(joined, (single[:2], single[2:4], single[4:]), strict=True):
        assert report.loss == pytest.approx(sum(one.loss for one in part) / len(part), rel=1e-12)
        assert report.top1_error == pytest.approx(sum(one.top1_error for one in part) / len(part), rel=1e-12)


def test_the_first_loss_is_that_of_the_untrained_network(small_config, batch):
    network, optimizer = build_trainee(small_config)
    with torch.no_grad():
        probabilities = network(batch.images).softmax(1)
    expected = -probabilities[range(8), batch.labels].log().mean().item()
    (report,) = run(network, optimizer, batch, rate=0.0, num_steps=1, report_every=1)
    assert report.loss == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_no_number_stops_with_step_and_rates(small_config, batch):
    network, optimizer = build_trainee(small_config)
    with pytest.raises(RunError, match=r"training loss nan at or before step \d+ with rates .*weights 1e\+06"):
        list(run(network, optimizer, batch, rate=1e6, num_steps=20, report_every=5))
