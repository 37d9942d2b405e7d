"""The two-tower network of 2012, as the winning code trained it and as the text says it."""

from dataclasses import replace

from pipeline import paper
from pipeline.config import (
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
from pipeline.experiments.augmentations import AUGMENTATIONS
from pipeline.experiments.experiment import Experiment

Steps = tuple[Step, ...]
SOURCE_STEPS: tuple[Steps, ...] = (  # net 145: norm before ReLU in layer 1, a second norm in layer 2
    ("lrn", "pool", "relu"),
    ("relu", "lrn", "local_norm", "pool"),
    ("relu",),
    ("relu",),
    ("pool", "relu"),
)
SOURCE_STDS = (paper.WEIGHT_STD,) * 2 + (paper.SOURCE_CONV345_STD,) * 3


def build_convs(
    *, after: tuple[Steps, ...], stds: tuple[float, ...], biases: tuple[float, ...]
) -> tuple[ConvConfig, ...]:
    """The five convolutions of §3.5, with what text, source and others see differently as arguments."""
    paddings = (paper.CONV1_PADDING, (2, 2), (1, 1), (1, 1), (1, 1))
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


def build_linears(*, std: float = paper.WEIGHT_STD, bias: float = paper.FC_BIAS) -> tuple[LinearConfig, ...]:
    """The three fully connected layers of §3.5."""
    return (
        LinearConfig(name="fc6", units=paper.FC_UNITS, weight_std=std, bias=bias),
        LinearConfig(name="fc7", units=paper.FC_UNITS, weight_std=std, bias=bias),
        LinearConfig(name="fc8", units=None, weight_std=paper.WEIGHT_STD, after=()),
    )


SOURCE_MODEL = ModelConfig(
    convs=build_convs(after=SOURCE_STEPS, stds=SOURCE_STDS, biases=paper.CONV_BIASES),
    linears=build_linears(),
    num_classes=paper.CLASSES,
    lrn=ResponseNormConfig(size=paper.LRN_SIZE, alpha=paper.SOURCE_LRN_ALPHA, beta=paper.LRN_BETA, k=paper.LRN_K),
    local_norm=ResponseNormConfig(
        size=paper.SOURCE_LOCAL_NORM_SIZE,
        alpha=paper.SOURCE_LOCAL_NORM_ALPHA,
        beta=paper.LRN_BETA,
        k=paper.SOURCE_LOCAL_NORM_K,
    ),
    pool_size=paper.POOL_SIZE,
    pool_stride=paper.POOL_STRIDE,
    dropout=paper.DROPOUT,
    inverted_dropout=False,
)

SOURCE_2010 = Experiment(
    name="source-2010",
    claim="37.5/17.0 % top-1/top-5 error on the LSVRC-2010 test set, as the code did it",
    source="net 145",
    config=ExperimentConfig(
        augment=replace(AUGMENTATIONS["source"], color_off_epoch=paper.SOURCE_2010_COLOR_OFF_EPOCH),
        model=SOURCE_MODEL,
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
    ),
    citations={
        "augment.images_per_crop": "net 145: one crop and one flip for 32 consecutive images",
        "augment.mean": "net 145: always the centre of the mean image",
        "augment.color_scale": "net 145: standard deviations",
        "augment.color_divisor": "net 145: training images divided by 1.1",
        "model.convs.*": "§3.5, net 145",
        "model.convs.conv1.padding": "net 145: the last window overhangs by 3",
        "model.convs.conv1.after": "net 145: rnorm1, pool1, then ReLU",
        "model.convs.conv2.after": "net 145: rnorm2, then cnorm2, which the paper does not mention",
        "model.convs.conv5.after": "net 145: pool5, then ReLU",
        "model.convs.*.weight_std": "net 145: 0.01, and 0.03 in conv3 to conv5",
        "model.convs.*.bias": "§5, net 145",
        "model.linears.*": "§3.5, §5, net 145",
        "model.towers": "net 145: the window of a norm stops at the tower's edge",
        "model.lrn.*": "§3.3",
        "model.lrn.alpha": "net 145: 1e-4, divided by n",
        "model.local_norm.*": "net 145: cnorm2",
        "model.pool_*": "§3.4, net 145",
        "model.inverted_dropout": "§4.2, net 145: a bare mask in training, halves at test",
        "optimizer.*": "§5, net 145",
        "optimizer.bias_weight_decay": "net 145: none on biases",
        "schedule.weights": "net 145: the notes",
        "schedule.biases": "net 145: 0.02 and 0.002; the epoch is inferred from sibling runs",
        "schedule.conv1": "net 145: 1e-5, then frozen",
        "schedule.epochs": "net 145: stopped",
        "global_batch_size": "§5",
    },
)

SOURCE_2012 = SOURCE_2010.derive(
    name="source-2012",
    claim="40.7/18.2 % top-1/top-5 error on the LSVRC-2012 validation set, as the code did it",
    source="net 145 on 2012",
    citations={
        "augment.color_off_epoch": "net 145 on 2012: the notes",
        "schedule.*": "net 145 on 2012: the notes",
        "schedule.biases": "inferred: 0.02 in the file, which is that of a later restart",
    },
    augment=replace(SOURCE_2010.config.augment, color_off_epoch=paper.SOURCE_2012_COLOR_OFF_EPOCH),
    schedule=ScheduleConfig(
        epochs=paper.SOURCE_2012_EPOCHS,
        weights=paper.SOURCE_2012_RATES,
        biases=paper.UNDROPPED_BIAS_RATES,
        conv1=paper.SOURCE_2012_CONV1_RATES,
    ),
)

PAPER_STEPS: tuple[Steps, ...] = (
    ("relu", "lrn", "pool"),
    ("relu", "lrn", "pool"),
    ("relu",),
    ("relu",),
    ("relu", "pool"),
)
"""§3.5, Fig. 2: every layer has its ReLU at once, then the norm, then the pooling."""

PAPER = SOURCE_2010.derive(
    name="paper",
    claim="37.5/17.0 % top-1/top-5 error on the LSVRC-2010 test set, as the text says it",
    source="§3 to §5, taken literally",
    citations={
        "augment.*": "§4.1",
        "augment.num_offsets": "§4.1: 2048 variants are 32 x 32 x 2",
        "augment.images_per_crop": "§4.1 says nothing of sharing",
        "augment.color_divisor": "§4.1 says nothing of a division",
        "augment.color_off_epoch": "§4.1 says nothing of an end",
        "augment.mean": "§2: the mean activity of each pixel",
        "augment.color_scale": "§4.1: eigenvalues, which fit pixels on [0, 1]",
        "model.convs.*.after": "§3.5, Fig. 2: ReLU, then norm, then pooling",
        "model.convs.*.weight_std": "§5: 0.01 in each layer",
        "model.lrn.alpha": "§3.3: 1e-4 undivided, which is 5e-4 over n = 5",
        "optimizer.bias_weight_decay": "§5: one rule for all",
        "schedule.*": "§5",
        "schedule.weights": "§5: 0.01",
        "schedule.biases": "§5: equal for all layers",
        "schedule.conv1": "§5 says nothing of freezing",
        "schedule.epochs": "§5: roughly 90 cycles",
        "schedule.plateau.patience": "ours, for §5 only says that a person watched the validation error",
    },
    augment=AUGMENTATIONS["paper"],
    model=replace(
        SOURCE_MODEL,
        convs=build_convs(after=PAPER_STEPS, stds=(paper.WEIGHT_STD,) * 5, biases=paper.CONV_BIASES),
        lrn=replace(SOURCE_MODEL.lrn, alpha=paper.PAPER_LRN_ALPHA),
    ),
    optimizer=replace(SOURCE_2010.config.optimizer, bias_weight_decay=paper.WEIGHT_DECAY),
    schedule=ScheduleConfig(
        epochs=paper.PAPER_EPOCHS,
        weights=((0, paper.LEARNING_RATE),),
        biases=((0, paper.LEARNING_RATE),),
        plateau=PlateauConfig(patience=5, factor=paper.PAPER_DROP_FACTOR, max_drops=paper.PAPER_DROPS),
    ),
)
