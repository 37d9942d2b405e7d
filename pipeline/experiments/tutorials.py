"""The AlexNets that people learn from tutorials."""

from dataclasses import replace

from pipeline import paper
from pipeline.config import (
    AugmentConfig,
    ConvConfig,
    ExperimentConfig,
    LinearConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    WeightRule,
)
from pipeline.experiments.experiment import Experiment
from pipeline.experiments.two_towers import Steps

PADDINGS = (2, 2, 1, 1, 1)
STEPS: tuple[Steps, ...] = (("relu", "pool"), ("relu", "pool"), ("relu",), ("relu",), ("relu", "pool"))
NO_CLAIM = "no claim of the paper:"


def build_convs(
    kernels: tuple[int, ...], *, rule: WeightRule, torch_bias: bool = False, after: tuple[Steps, ...] = STEPS
) -> tuple[ConvConfig, ...]:
    """Five ungrouped convolutions of §3.5's sizes."""
    return tuple(
        ConvConfig(
            name=f"conv{i + 1}",
            kernels=kernels[i],
            size=paper.CONV_SIZES[i],
            stride=paper.CONV1_STRIDE if i == 0 else 1,
            padding=(PADDINGS[i], PADDINGS[i]),
            after=after[i],
            weight_std=rule,
            bias="torch" if torch_bias else 0.0,
        )
        for i in range(5)
    )


HALF_RATES = ((0, 0.01), (30, 0.001), (60, 1e-4))
TUTORIAL_HALF = Experiment(
    name="tutorial-half",
    claim=f"{NO_CLAIM} one tower's widths, no groups, no norms, as a widely read tutorial builds it",
    source="tutorial; optimiser ours",
    config=ExperimentConfig(
        augment=AugmentConfig(color_scale="none", pixel_scale=127.5),
        model=ModelConfig(
            convs=build_convs(
                tuple(kernels // 2 for kernels in paper.CONV_KERNELS),
                rule="kaiming",
                after=(*STEPS[:4], ("relu", "pool", "dropout")),
            ),
            linears=(
                LinearConfig(name="fc6", units=paper.FC_UNITS // 2),
                LinearConfig(name="fc7", units=paper.FC_UNITS // 2, after=("relu",)),
                LinearConfig(name="fc8", units=None, after=()),
            ),
            towers=1,
            inverted_dropout=True,
        ),
        optimizer=OptimizerConfig(bias_weight_decay=paper.WEIGHT_DECAY, lr_in_momentum=False),
        schedule=ScheduleConfig(epochs=90, weights=HALF_RATES, biases=HALF_RATES),
    ),
    citations={"model.*": "tutorial"}
    | dict.fromkeys(("optimizer.*", "schedule.*", "augment.*", "global_batch_size"), "ours: the post gives none"),
)

ONE_TOWER_CONVS = build_convs(
    paper.CONV_KERNELS,
    rule="torch",
    torch_bias=True,
    after=(("relu", "lrn", "pool"), ("relu", "lrn", "pool"), *STEPS[2:]),
)
TUTORIAL_ONE_TOWER = Experiment(
    name="tutorial-one-tower",
    claim=f"{NO_CLAIM} all kernels in one tower, norms after ReLU, as a widely read tutorial builds it",
    source="tutorial",
    config=ExperimentConfig(
        augment=AugmentConfig(mean="channel", pixel_scale="std", color_scale="none"),
        model=ModelConfig(
            convs=ONE_TOWER_CONVS,
            linears=(
                LinearConfig(name="fc6", units=paper.FC_UNITS, weight_std="torch", bias="torch"),
                LinearConfig(name="fc7", units=paper.FC_UNITS, weight_std="torch", bias="torch"),
                LinearConfig(name="fc8", units=None, weight_std="torch", bias="torch", after=()),
            ),
            towers=1,
            inverted_dropout=True,
        ),
        optimizer=OptimizerConfig(bias_weight_decay=paper.WEIGHT_DECAY, lr_in_momentum=False),
        schedule=ScheduleConfig(epochs=90, weights=((0, paper.LEARNING_RATE),), biases=((0, paper.LEARNING_RATE),)),
    ),
    citations={
        "model.lrn.size": "§3.3; the post has all maps: --model.convs.0.lrn-size 96 --model.convs.1.lrn-size 256",
        "augment.*": "ours: the post gives none",
        "schedule.epochs": "ours: the post gives none",
        "global_batch_size": "ours: the post gives none",
        "optimizer.bias_weight_decay": "torch.optim.SGD, which decays biases, too",
        "optimizer.lr_in_momentum": "torch.optim.SGD",
        **dict.fromkeys(("*.weight_std", "*.bias"), "PyTorch's default, for the post draws none"),
    },
)

D2L_CONVS = build_convs(paper.CONV_KERNELS, rule="xavier", torch_bias=True)
D2L_RATES = ((0, 0.01),)
TUTORIAL_D2L = Experiment(
    name="tutorial-d2l",
    claim=f"{NO_CLAIM} Fashion-MNIST brought to 224x224, as Dive into Deep Learning builds it",
    source="Dive into Deep Learning",
    config=ExperimentConfig(
        augment=AugmentConfig(
            crop="center",
            crop_pixels=28,
            resize_pixels=224,
            flip=False,
            gray=True,
            mean="none",
            pixel_scale=255.0,
            color_scale="none",
        ),
        model=ModelConfig(
            convs=(replace(D2L_CONVS[0], padding=(1, 1)), *D2L_CONVS[1:]),
            linears=(
                LinearConfig(name="fc6", units=paper.FC_UNITS, weight_std="xavier", bias="torch"),
                LinearConfig(name="fc7", units=paper.FC_UNITS, weight_std="xavier", bias="torch"),
                LinearConfig(name="fc8", units=None, weight_std="xavier", bias="torch", after=()),
            ),
            towers=1,
            num_classes=10,
            in_channels=1,
            inverted_dropout=True,
        ),
        optimizer=OptimizerConfig(momentum=0.0, weight_decay=0.0, lr_in_momentum=False),
        schedule=ScheduleConfig(epochs=10, weights=D2L_RATES, biases=D2L_RATES),
    ),
)

TUTORIAL_D2L_28 = TUTORIAL_D2L.derive(
    name="tutorial-d2l-28",
    claim=f"{NO_CLAIM} Fashion-MNIST as it is, 28x28: the post finds about one point less accuracy than at 224x224",
    source="a reader's variant of Dive into Deep Learning",
    citations={},
    augment=replace(TUTORIAL_D2L.config.augment, resize_pixels=None),
    model=replace(
        TUTORIAL_D2L.config.model,
        convs=(replace(D2L_CONVS[0], size=5, stride=1, padding=(2, 2), pool_stride=1), *D2L_CONVS[1:]),
    ),
    schedule=ScheduleConfig(epochs=20, weights=D2L_RATES, biases=D2L_RATES),
)

TUTORIALS: tuple[Experiment, ...] = (TUTORIAL_ONE_TOWER, TUTORIAL_HALF, TUTORIAL_D2L, TUTORIAL_D2L_28)
