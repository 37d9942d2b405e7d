"""Steps: their seeds, what they report, and that they learn."""

import dataclasses
import itertools
import math

import pytest
import torch
from trainees import ALONE, NUM_CLASSES

from pipeline.augment.loader import Batch, TrainLoader
from pipeline.errors import RunError
from pipeline.model.alexnet import build_alexnet
from pipeline.model.layers import MaskDropout
from pipeline.options import LoadingConfig
from pipeline.train.loop import run_steps
from pipeline.train.optimizer import build_optimizer, set_rates
from pipeline.train.schedule import Rates
from pipeline.train.step import Stepper, seed_step

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


@pytest.fixture
def start(small_config):
    """Starts a network without dropout at a rate."""

    def start(*, rate: float, width: float = 0.25) -> Stepper:
        model = dataclasses.replace(small_config.model, dropout=0.0, width=width)
        network = build_alexnet(model, input_pixels=CROP_PIXELS, seed=0)
        optimizer = build_optimizer(network, small_config.optimizer)
        set_rates(optimizer, Rates(weights=rate, biases=2 * rate, conv1=rate, head=rate), lr_in_momentum=True)
        return Stepper(network, optimizer, precision="float32", device=torch.device("cpu"))

    return start


def run(stepper: Stepper, batch: Batch, *, num_steps: int, report_every: int, first_step: int = 0, **options):
    return run_steps(
        stepper,
        itertools.repeat(batch),
        first_step=first_step,
        last_step=num_steps,
        seed=0,
        report_every=report_every,
        world=ALONE,
        **options,
    )


def test_a_few_pictures_are_learned_by_heart(start, batch):
    reports = list(run(start(rate=0.002, width=0.5), batch, num_steps=60, report_every=10))
    assert reports[0].loss > 0.8 * math.log(NUM_CLASSES)
    assert reports[-1].loss < 0.3 * math.log(NUM_CLASSES)
    assert reports[-1].top1_error == 0


def test_reports_are_means_over_the_steps_since_the_last_one(start, batch):
    single = list(run(start(rate=0.01), batch, num_steps=5, report_every=1))
    joined = list(run(start(rate=0.01), batch, num_steps=5, report_every=2))
    assert [report.step for report in single] == [1, 2, 3, 4, 5]
    assert [report.step for report in joined] == [2, 4, 5]
    for report, part in zip(joined, (single[:2], single[2:4], single[4:]), strict=True):
        assert report.loss == pytest.approx(sum(one.loss for one in part) / len(part), rel=1e-12)
        assert report.top1_error == pytest.approx(sum(one.top1_error for one in part) / len(part), rel=1e-12)


def test_reports_come_at_the_same_steps_wherever_training_goes_on(start, batch):
    reports = run(start(rate=0.0), batch, first_step=3, num_steps=11, report_every=5)
    assert [report.step for report in reports] == [5, 10, 11]


def test_each_step_is_announced_before_it_is_taken(start, batch):
    stepper, announced = start(rate=0.0), []

    def announce(step: int) -> None:
        announced.append((step, stepper.network.fc8.bias.detach().abs().sum().item()))
        set_rates(stepper.optimizer, Rates(weights=0.0, biases=0.01, conv1=0.0, head=0.0), lr_in_momentum=True)

    list(run(stepper, batch, first_step=4, num_steps=7, report_every=5, set_rates=announce))
    assert [step for step, _ in announced] == [4, 5, 6]
    assert announced[0][1] == 0 < announced[1][1] < announced[2][1]


def test_damaged_pictures_count_in_no_mean(start, batch):
    lacking = dataclasses.replace(batch, images=batch.images[:5], labels=batch.labels[:5], num_skipped=3)
    (report,) = run(start(rate=0.0), lacking, num_steps=2, report_every=2)
    (expected,) = run(start(rate=0.0), dataclasses.replace(lacking, num_skipped=0), num_steps=1, report_every=1)
    assert (report.loss, report.top1_error) == (pytest.approx(expected.loss, rel=1e-6), expected.top1_error)
    assert report.num_skipped == 6
    assert report.images_per_second == pytest.approx(10 / report.seconds)


def test_if_all_pictures_are_damaged_there_is_nothing_to_report(start, batch):
    empty = dataclasses.replace(batch, images=batch.images[:0], labels=batch.labels[:0], num_skipped=8)
    with pytest.raises(
        RunError, match="not one picture of steps 4 to 5 can be decoded: see `alexnet preprocess verify`"
    ):
        list(run(start(rate=0.0), empty, first_step=4, num_steps=9, report_every=3))


def test_the_first_loss_is_that_of_the_untrained_network(start, batch):
    stepper = start(rate=0.0)
    with torch.no_grad():
        probabilities = stepper.network(batch.images).softmax(1)
    expected = -probabilities[range(8), batch.labels].log().mean().item()
    (report,) = run(stepper, batch, num_steps=1, report_every=1)
    assert report.loss == pytest.approx(expected, rel=1e-5)
