"""Values that no run can use are refused by the name of their flag."""

import dataclasses
from pathlib import Path

import pytest

from pipeline.config import AugmentConfig, LinearConfig, PlateauConfig, ScheduleConfig
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS
from pipeline.options import (
    DemoConfig,
    EvaluateConfig,
    PreprocessConfig,
    RuntimeConfig,
    TrainBenchConfig,
    count_cores_per_rank,
)

HERE = Path()
NAN = float("nan")
CONFIG = EXPERIMENTS["source-2012"].config
EVEN_NORM = dataclasses.replace(CONFIG.model.local_norm, size=4)
GROUPED_FIRST = dataclasses.replace(CONFIG.model.convs[0], groups=2)
TWICE = (CONFIG.model.convs[0], CONFIG.model.convs[0])
GRAY = AugmentConfig(gray=True, color_scale="none")
GOOD = {
    "conv": CONFIG.model.convs[0],
    "linear": CONFIG.model.linears[0],
    "norm": CONFIG.model.lrn,
    "optimizer": CONFIG.optimizer,
    "augment": AugmentConfig(),
    "gray": AugmentConfig(gray=True, color_scale="none", statistics="imagenet"),
    "model": CONFIG.model,
    "schedule": ScheduleConfig(epochs=2, weights=((0, 0.1),), biases=((0, 0.1),)),
    "plateau": PlateauConfig(),
    "experiment": CONFIG,
    "runtime": RuntimeConfig(data=HERE, out=HERE),
    "preprocess": PreprocessConfig(source=HERE, out=HERE),
    "evaluate": EvaluateConfig(run=HERE),
    "demo": DemoConfig(),
    "bench": TrainBenchConfig(),
}


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        ("augment", "crop_pixels", 0, "--augment.crop-pixels must be positive, found 0"),
        ("augment", "num_offsets", 0, "--augment.num-offsets must be positive, found 0"),
        ("augment", "images_per_crop", 0, "--augment.images-per-crop must be positive, found 0"),
        ("augment", "pixel_scale", 0.0, "--augment.pixel-scale must be positive, found 0.0"),
        ("augment", "pixel_scale", NAN, "--augment.pixel-scale must be positive, found nan"),
        ("augment", "color_divisor", -1.1, "--augment.color-divisor must be positive, found -1.1"),
        ("augment", "color_coefficient_std", -0.1, "--augment.color-coefficient-std must not be negative, found -0.1"),
        ("augment", "resize_pixels", 0, "--augment.resize-pixels must be positive, found 0"),
        ("augment", "area_range", (0.0, 1.0), "--augment.area-range must rise within (0, 1], found (0.0, 1.0)"),
        ("augment", "area_range", (0.5, 1.1), "--augment.area-range must rise within (0, 1], found (0.5, 1.1)"),
        ("augment", "area_range", (0.5, 0.4), "--augment.area-range must rise within (0, 1], found (0.5, 0.4)"),
        ("augment", "aspect_range", (0.0, 1.0), "--augment.aspect-range must rise from above 0, found (0.0, 1.0)"),
        ("augment", "aspect_range", (2.0, 1.0), "--augment.aspect-range must rise from above 0, found (2.0, 1.0)"),
        ("augment", "crop", "resized", "--augment.mean centered needs patches of one size"),
        ("augment", "gray", True, "--augment.gray leaves no colours to shift, found --augment.color-scale std"),
        ("gray", "pixel_scale", "std", "--augment.gray: nobody has published the deviation of ImageNet's luminance"),
        ("model", "in_channels", 2, "--model.in-channels must be 3 or 1 (luminance), found 2"),
        ("model", "convs", (), "--model needs at least one convolution and one linear layer"),
        ("model", "linears", (), "--model needs at least one convolution and one linear layer"),
        ("model", "linears", (LinearConfig(name="fc8", units=7),), "--model.linears: the last layer's units"),
        (
            "model",
            "linears",
            (LinearConfig(name="fc8", units=None),),
            "--model.linears: nothing may follow the last layer",
        ),
        ("model", "num_classes", 1, "--model.num-classes must be at least 2, found 1"),
        ("model", "dropout", 1.0, "--model.dropout must lie in [0, 1), found 1.0"),
        ("model", "dropout", -0.1, "--model.dropout must lie in [0, 1), found -0.1"),
        ("model", "width", 0.0, "--model.width must be positive, found 0.0"),
        ("model", "width", 0.001, "--model.width 0.001 gives conv1 0 kernels"),
        ("model", "width", 0.01, "--model.width 0.01 gives conv1 1 kernels, which 2 towers cannot share"),
        ("model", "towers", 0, "--model.towers must be positive, found 0"),
        ("model", "pool_size", 0, "--model.pool-size must be positive, found 0"),
        ("model", "pool_stride", 0, "--model.pool-stride must be positive, found 0"),
        ("model", "local_norm", EVEN_NORM, "--model.local-norm.size must be odd, found 4"),
        ("model", "convs", (GROUPED_FIRST,), "conv1 sees 3 maps, which 2 groups cannot share: change its groups"),
        ("model", "convs", CONFIG.model.convs[1:], "--model.convs.0.name must be conv1, whose rate is its own, found"),
        ("model", "convs", TWICE, "--model needs a name of its own for each layer, found conv1, conv1, fc6, fc7, fc8"),
        ("conv", "kernels", 0, "kernels of conv1 must be positive, found 0"),
        ("conv", "size", 0, "size of conv1 must be positive, found 0"),
        ("conv", "stride", -1, "stride of conv1 must be positive, found -1"),
        ("conv", "groups", 0, "groups of conv1 must be positive, found 0"),
        ("conv", "padding", (0, -3), "padding of conv1 must not be negative, found (0, -3)"),
        ("conv", "pool_stride", 0, "pool_stride of conv1 must be positive, found 0"),
        ("conv", "lrn_size", -5, "lrn_size of conv1 must be positive, found -5"),
        ("conv", "weight_std", -0.1, "weight-std of conv1 must not be negative, found -0.1"),
        ("conv", "weight_std", NAN, "weight-std of conv1 must not be negative, found nan"),
        ("conv", "after", ("relu", "pool", "relu"), "conv1 is followed by the same step twice: relu, pool, relu"),
        ("linear", "units", 0, "units of fc6 must be positive, found 0"),
        ("linear", "weight_std", -0.1, "weight-std of fc6 must not be negative, found -0.1"),
        ("linear", "after", ("dropout", "dropout"), "fc6 is followed by the same step twice: dropout, dropout"),
        ("norm", "size", 0, "a response norm's size must be positive, found 0"),
        ("norm", "k", 0.0, "a response norm's k must be positive, found 0.0"),
        ("optimizer", "momentum", 1.0, "--optimizer.momentum must lie in [0, 1), found 1.0"),
        ("optimizer", "weight_decay", -1.0, "--optimizer.weight-decay must not be negative, found -1.0"),
        ("optimizer", "bias_weight_decay", -1.0, "--optimizer.bias-weight-decay must not be negative, found -1.0"),
        ("optimizer", "lars", 0.0, "--optimizer.lars must be positive, found 0.0"),
        ("schedule", "epochs", 0, "--schedule.epochs must be positive, found 0"),
        ("schedule", "weights", (), "--schedule.weights must give a rate for epoch 0, found ()"),
        ("schedule", "weights", ((1, 0.1),), "--schedule.weights must give a rate for epoch 0, found ((1, 0.1),)"),
        ("schedule", "weights", ((0, 0.1), (0, 0.2)), "--schedule.weights must be pairs of rising epoch"),
        ("schedule", "biases", ((0, -0.1),), "--schedule.biases must be pairs of rising epoch and non-negative rate"),
        ("schedule", "biases", ((0, NAN),), "--schedule.biases must be pairs of rising epoch and non-negative rate"),
        ("schedule", "biases", (), "--schedule.biases must give a rate for epoch 0"),
        ("schedule", "conv1", ((9, 0.1), (8, 0.2)), "--schedule.conv1 must be pairs of rising epoch"),
        ("schedule", "head", ((0, 0.1), (0, 0.2)), "--schedule.head must be pairs of rising epoch"),
        ("schedule", "head", ((0, -0.1),), "--schedule.head must be pairs of rising epoch and non-negative rate"),
        ("schedule", "features", -0.1, "--schedule.features must not be negative, found -0.1"),
        ("schedule", "features", NAN, "--schedule.features must not be negative, found nan"),
        ("schedule", "warmup_epochs", -1, "--schedule.warmup-epochs must not be negative, found -1"),
        ("schedule", "warmup_epochs", 2, "--schedule.warmup-epochs 2 must be fewer than --schedule.epochs 2"),
        ("schedule", "rates_for_batch", 0, "--schedule.rates-for-batch must be positive, found 0"),
        ("schedule", "evaluate_every", 0, "--schedule.evaluate-every must be positive, found 0"),
        ("plateau", "patience", 0, "--schedule.plateau.patience must be positive, found 0"),
        ("plateau", "factor", 1.0, "--schedule.plateau.factor must be above 1, found 1.0"),
        ("experiment", "global_batch_size", 0, "--global-batch-size must be positive, found 0"),
        ("experiment", "augment", GRAY, "--model.in-channels is 3 and pictures come with 1: --augment.gray gives 1"),
        ("experiment", "seed", -1, "--seed must not be negative, found -1"),
        ("runtime", "num_threads", 0, "--num-threads must be positive, found 0"),
        ("runtime", "hw_decoder_load", 1.1, "--hw-decoder-load must lie in [0, 1], found 1.1"),
        ("runtime", "log_every", 0, "--log-every must be positive, found 0"),
        ("runtime", "keep", 0, "--keep must be positive, found 0"),
        ("runtime", "checkpoint_every", 0, "--checkpoint-every must be positive, found 0"),
        ("runtime", "max_steps", 0, "--max-steps must be positive, found 0"),
        ("runtime", "micro_batch", 0, "--micro-batch must be positive, found 0"),
        ("runtime", "fc_parallel", 0, "--fc-parallel must be positive, found 0"),
        ("runtime", "stall_after", 0, "--stall-after must be positive, found 0"),
        ("preprocess", "images_per_shard", 0, "--images-per-shard must be positive, found 0"),
        ("preprocess", "workers", 0, "--workers must be positive, found 0"),
        ("preprocess", "max_dropped", 1.1, "--max-dropped must lie in [0, 1], found 1.1"),
        ("preprocess", "seed", -1, "--seed must not be negative, found -1"),
        ("evaluate", "views", (), "--views must name at least one of center, ten"),
        ("evaluate", "batch_size", 0, "--batch-size must be positive, found 0"),
        ("evaluate", "num_threads", 0, "--num-threads must be positive, found 0"),
        ("demo", "processes", 0, "--processes must be positive, found 0"),
        ("bench", "batch_size", 0, "--batch-size must be positive, found 0"),
        ("bench", "num_steps", 0, "--num-steps must be positive, found 0"),
        ("bench", "num_threads", 0, "--num-threads must be positive, found 0"),
    ],
)
def test_a_value_that_no_run_can_use_is_refused_by_flag_and_value(kind, field, value, message):
    with pytest.raises(InputError) as refused:
        dataclasses.replace(GOOD[kind], **{field: value})
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("layer", ["conv1", "head"])
def test_conv1_and_the_head_need_no_rate_of_their_own_for_epoch_0(layer):
    schedule = dataclasses.replace(GOOD["schedule"], **{layer: ((1, 0.0),)})
    assert getattr(schedule, layer) == ((1, 0.0),)


@pytest.mark.parametrize(("changes", "expected"), [({}, False), ({"warmup_epochs": 1}, True), ({"cosine": True}, True)])
def test_rates_follow_the_steps_under_a_warm_up_or_a_cosine(changes, expected):
    assert dataclasses.replace(GOOD["schedule"], **changes).follows_steps is expected


def test_width_multiplies_every_kernel_and_unit_but_the_classes():
    narrow = dataclasses.replace(CONFIG.model, width=0.125)
    assert [narrow.scaled(conv.kernels) for conv in narrow.convs] == [12, 32, 48, 48, 32]
    assert narrow.scaled(4096) == 512
    assert narrow.num_classes == 1000


@pytest.mark.parametrize(("batch", "ranks", "each"), [(128, 1, 128), (128, 8, 16), (9, 3, 3), (8, 8, 1)])
def test_the_global_batch_is_split_evenly(batch, ranks, each):
    assert dataclasses.replace(CONFIG, global_batch_size=batch).batch_size_per_rank(ranks) == each


@pytest.mark.parametrize(("batch", "ranks"), [(9, 2), (8, 3), (2, 4)])
def test_a_batch_that_does_not_divide_is_refused(batch, ranks):
    config = dataclasses.replace(CONFIG, global_batch_size=batch)
    with pytest.raises(InputError, match=f"--global-batch-size {batch} does not divide over {ranks} ranks"):
        config.batch_size_per_rank(ranks)


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({}, {0: True, 66: True, 67: False}),
        ({"color_off_epoch": None}, {0: True, 1000: True}),
        ({"color_scale": "none"}, {0: False}),
        ({"color_coefficient_std": 0.0}, {0: False}),
    ],
)
def test_colours_shift_until_their_last_epoch_where_they_can(changes, epochs):
    augment = dataclasses.replace(CONFIG.augment, **changes)
    assert {epoch: augment.has_color_shift(epoch) for epoch in epochs} == epochs


@pytest.mark.parametrize(("local_ranks", "num_cores", "expected"), [(1, 2, 2), (4, 64, 16), (4, 12, 3), (8, 4, 1)])
def test_threads_are_the_cores_of_a_rank_by_default(monkeypatch, local_ranks, num_cores, expected):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local_ranks))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(num_cores)))
    assert count_cores_per_rank() == expected
