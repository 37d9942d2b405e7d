"""The named experiments: each a claim of the paper, or a network that people know, and its configuration."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from pipeline import paper
from pipeline.config import (
    AugmentConfig,
    ConvConfig,
    ExperimentConfig,
    LinearConfig,
    ModelConfig,
    OptimizerConfig,
    PlateauConfig,
    ResponseNormConfig,
    ScheduleConfig,
    Step,
)
from pipeline.errors import InputError
from pipeline.experiments.augmentations import AUGMENTATIONS
from pipeline.experiments.differences import find_differences


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """A configuration with a name, the claim it serves, and where both come from."""

    name: str
    claim: str
    source: str
    config: ExperimentConfig


def _build_convs(
    *,
    padding1: tuple[int, int],
    after: tuple[tuple[Step, ...], ...],
    stds: tuple[float, ...],
    biases: tuple[float, ...],
) -> tuple[ConvConfig, ...]:
    """The five convolutions of §3.5, with what text and source see differently as arguments."""
    paddings = (padding1, (2, 2), (1, 1), (1, 1), (1, 1))
    groups = (1, 2, 1, 2, 2)
    return tuple(
        ConvConfig(
            name=f"conv{i + 1}",
            kernels=paper.CONV_KERNELS[i],
            size=paper.CONV_SIZES[i],
            stride=paper.CONV1_STRIDE if i == 0 else 1,
            padding=paddings[i],
            groups=groups[i],
            after=after[i],
            weight_std=stds[i],
            bias=biases[i],
        )
        for i in range(5)
    )


def _build_source_model() -> ModelConfig:
    """Net 145: norm before ReLU in layer 1, a second norm in layer 2, 0.03 for conv3 to conv5."""
    return ModelConfig(
        convs=_build_convs(
            padding1=paper.CONV1_PADDING,
            after=(
                ("lrn", "pool", "relu"),
                ("relu", "lrn", "local_norm", "pool"),
                ("relu",),
                ("relu",),
                ("pool", "relu"),
            ),
            stds=(paper.WEIGHT_STD,) * 2 + (paper.SOURCE_CONV345_STD,) * 3,
            biases=(0.0, 1.0, 0.0, 1.0, 1.0),
        ),
        linears=(
            LinearConfig(name="fc6", units=paper.FC_UNITS, weight_std=paper.WEIGHT_STD, bias=1.0),
            LinearConfig(name="fc7", units=paper.FC_UNITS, weight_std=paper.WEIGHT_STD, bias=1.0),
            LinearConfig(name="fc8", units=None, weight_std=paper.WEIGHT_STD, after=()),
        ),
        num_classes=paper.CLASSES,
        lrn=ResponseNormConfig(size=paper.LRN_SIZE, alpha=paper.SOURCE_LRN_ALPHA, beta=paper.LRN_BETA, k=paper.LRN_K),
        local_norm=ResponseNormConfig(
            size=paper.SOURCE_LOCAL_NORM_SIZE, alpha=paper.SOURCE_LOCAL_NORM_ALPHA, beta=paper.LRN_BETA, k=1.0
        ),
        pool_size=paper.POOL_SIZE,
        pool_stride=paper.POOL_STRIDE,
        dropout=paper.DROPOUT,
        inverted_dropout=False,
    )


def _build_source_2010() -> ExperimentConfig:
    return ExperimentConfig(
        augment=dataclasses.replace(AUGMENTATIONS["source"], color_off_epoch=paper.SOURCE_2010_COLOR_OFF_EPOCH),
        model=_build_source_model(),
        optimizer=OptimizerConfig(
            momentum=paper.MOMENTUM, weight_decay=paper.WEIGHT_DECAY, bias_weight_decay=0.0, lr_in_momentum=True
        ),
        schedule=ScheduleConfig(
            epochs=paper.SOURCE_2010_EPOCHS,
            weights=paper.SOURCE_2010_RATES,
            biases=paper.SOURCE_BIAS_RATES,
            conv1=paper.SOURCE_2010_CONV1_RATES,
        ),
        global_batch_size=paper.BATCH_SIZE,
    )


def _build_source_2012() -> ExperimentConfig:
    config = _build_source_2010()
    return dataclasses.replace(
        config,
        augment=dataclasses.replace(config.augment, color_off_epoch=paper.SOURCE_2012_COLOR_OFF_EPOCH),
        schedule=ScheduleConfig(
            epochs=paper.SOURCE_2012_EPOCHS,
            weights=paper.SOURCE_2012_RATES,
            biases=paper.SOURCE_2012_BIAS_RATES,
            conv1=paper.SOURCE_2012_CONV1_RATES,
        ),
    )


def _build_paper() -> ExperimentConfig:
    """The text taken literally; the patience is ours, for §5 only says that a person watched the validation error."""
    source = _build_source_2010()
    rates = ((0, paper.LEARNING_RATE),)
    model = dataclasses.replace(
        source.model,
        convs=_build_convs(
            padding1=paper.CONV1_PADDING,
            after=(("relu", "lrn", "pool"), ("relu", "lrn", "pool"), ("relu",), ("relu",), ("relu", "pool")),
            stds=(paper.WEIGHT_STD,) * 5,
            biases=(0.0, 1.0, 0.0, 1.0, 1.0),
        ),
        lrn=ResponseNormConfig(size=paper.LRN_SIZE, alpha=paper.PAPER_LRN_ALPHA, beta=paper.LRN_BETA, k=paper.LRN_K),
    )
    return dataclasses.replace(
        source,
        augment=AUGMENTATIONS["paper"],
        model=model,
        optimizer=dataclasses.replace(source.optimizer, bias_weight_decay=paper.WEIGHT_DECAY),
        schedule=ScheduleConfig(
            epochs=paper.PAPER_EPOCHS,
            weights=rates,
            biases=rates,
            plateau=PlateauConfig(patience=5, factor=paper.PAPER_DROP_FACTOR, max_drops=paper.PAPER_DROPS),
        ),
    )


def _build_tutorial_half() -> ExperimentConfig:
    """One tower's widths without groups or norms; the post gives no optimiser, so rate, decay and scale are ours."""
    kernels = tuple(kernels // 2 for kernels in paper.CONV_KERNELS)
    paddings = ((2, 2), (2, 2), (1, 1), (1, 1), (1, 1))
    after: tuple[tuple[Step, ...], ...] = (
        ("relu", "pool"),
        ("relu", "pool"),
        ("relu",),
        ("relu",),
        ("relu", "pool", "dropout"),
    )
    model = ModelConfig(
        convs=tuple(
            ConvConfig(
                name=f"conv{i + 1}",
                kernels=kernels[i],
                size=paper.CONV_SIZES[i],
                stride=paper.CONV1_STRIDE if i == 0 else 1,
                padding=paddings[i],
                after=after[i],
                weight_std="kaiming",
            )
            for i in range(5)
        ),
        linears=(
            LinearConfig(name="fc6", units=paper.FC_UNITS // 2),
            LinearConfig(name="fc7", units=paper.FC_UNITS // 2, after=("relu",)),
            LinearConfig(name="fc8", units=None, after=()),
        ),
        towers=1,
        inverted_dropout=True,
    )
    rates = ((0, 0.01), (30, 0.001), (60, 1e-4))
    return ExperimentConfig(
        augment=AugmentConfig(color_scale="none", pixel_scale=127.5),
        model=model,
        optimizer=OptimizerConfig(bias_weight_decay=paper.WEIGHT_DECAY, lr_in_momentum=False),
        schedule=ScheduleConfig(epochs=90, weights=rates, biases=rates),
    )


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            name="source-2010",
            claim="37.5/17.0 % top-1/top-5 error on the LSVRC-2010 test set, as the code did it",
            source="Table 1; net 145",
            config=_build_source_2010(),
        ),
        Experiment(
            name="source-2012",
            claim="40.7/18.2 % top-1/top-5 error on the LSVRC-2012 validation set, as the code did it",
            source="Table 2 (1 CNN); net 145 on 2012",
            config=_build_source_2012(),
        ),
        Experiment(
            name="paper",
            claim="37.5/17.0 % top-1/top-5 error on the LSVRC-2010 test set, as the text says it",
            source="§3 to §5, taken literally",
            config=_build_paper(),
        ),
        Experiment(
            name="tutorial-half",
            claim="no claim of the paper: one tower's widths, no groups, no norms, as a widely read tutorial builds it",
            source="tutorial; optimiser ours",
            config=_build_tutorial_half(),
        ),
    )
}


def get_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: there is none.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


Status = Literal["as registered", "modified"]


def get_status(name: str, config: ExperimentConfig) -> Status:
    """Whether `config` is what is registered under `name`; a modified run never takes a row of the report."""
    return "modified" if find_differences(get_experiment(name).config, config) else "as registered"
