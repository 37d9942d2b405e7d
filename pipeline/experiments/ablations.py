"""What the paper takes away or adds, each in the configuration that gave its number where the source records one."""

from dataclasses import replace

from pipeline import paper
from pipeline.config import ConvConfig, ModelConfig, ScheduleConfig
from pipeline.experiments.experiment import Experiment
from pipeline.experiments.two_towers import SOURCE_2010, SOURCE_2012, SOURCE_MODEL

OURS = "ours: no run that isolates it is recorded, so all else is net 145 on 2012"
CONV1, CONV2, CONV3, CONV4, CONV5 = SOURCE_MODEL.convs
FC6, FC7, FC8 = SOURCE_MODEL.linears


def with_convs(*convs: ConvConfig) -> ModelConfig:
    """The source's network with other convolutions."""
    return replace(SOURCE_MODEL, convs=convs)


ONE_GPU = SOURCE_2010.derive(
    name="one-gpu",
    claim="one tower is worse than two by 1.7/1.2 % (§3.2), LSVRC-2010 test set",
    source="net 145-half",
    citations={
        "model.convs.*.kernels": "net 145-half: one tower's, with conv5 kept whole",
        "model.convs.*.groups": "net 145-half",
        "model.linears.*.units": "net 145-half: kept whole",
        "model.towers": "net 145-half",
        "augment.color_off_epoch": "net 145-half: the notes",
        "schedule.*": "net 145-half: the notes",
        "schedule.weights": "net 145-half: the notes; its file ends at 1e-5, at an epoch that nobody wrote down",
        "schedule.biases": "net 145-half: 0.02 in most layers of the finished file",
    },
    augment=replace(SOURCE_2010.config.augment, color_off_epoch=paper.ONE_GPU_COLOR_OFF_EPOCH),
    model=replace(
        with_convs(
            replace(CONV1, kernels=CONV1.kernels // 2),
            *(replace(conv, kernels=conv.kernels // 2, groups=1) for conv in (CONV2, CONV3, CONV4)),
            replace(CONV5, groups=1),
        ),
        towers=1,
    ),
    schedule=ScheduleConfig(
        epochs=paper.ONE_GPU_EPOCHS,
        weights=paper.ONE_GPU_RATES,
        biases=paper.UNDROPPED_BIAS_RATES,
        conv1=paper.ONE_GPU_CONV1_RATES,
    ),
)

NO_LRN = SOURCE_2012.derive(
    name="no-lrn",
    claim="without response normalisation worse by 1.4/1.2 % (§3.3), LSVRC-2012 validation",
    source="net 148",
    citations={
        "model.convs.conv1.after": "net 148: without rnorm1",
        "model.convs.conv2.after": "net 148: without rnorm2 and cnorm2",
        "augment.color_off_epoch": "net 148: the notes",
        "schedule.*": "net 148: the notes",
        "schedule.biases": "net 148: 0.02 in the finished file",
    },
    augment=replace(SOURCE_2012.config.augment, color_off_epoch=paper.NO_LRN_COLOR_OFF_EPOCH),
    model=with_convs(
        replace(CONV1, after=("pool", "relu")), replace(CONV2, after=("relu", "pool")), CONV3, CONV4, CONV5
    ),
    schedule=ScheduleConfig(
        epochs=paper.NO_LRN_EPOCHS,
        weights=paper.NO_LRN_RATES,
        biases=paper.UNDROPPED_BIAS_RATES,
        conv1=paper.NO_LRN_CONV1_RATES,
    ),
)

NON_OVERLAPPING_POOLING = SOURCE_2012.derive(
    name="non-overlapping-pooling",
    claim="pooling without overlap worse by 0.4/0.3 % (§3.4), LSVRC-2012 validation",
    source="net 147",
    citations={
        "model.pool_*": "§3.4, net 147: 2/2, the last window may hang over",
        "model.convs.*.padding": "net 147: 55, 28, 26, 13, 11, 6",
        "augment.color_off_epoch": "net 147 records no end of the colour shift",
        "schedule.*": "net 147: the notes",
        "schedule.biases": "net 147: 0.002 in the finished file; the epoch is inferred",
    },
    augment=replace(SOURCE_2012.config.augment, color_off_epoch=None),
    model=replace(
        with_convs(CONV1, replace(CONV2, padding=(1, 1)), CONV3, CONV4, replace(CONV5, padding=(0, 0))),
        pool_size=2,
        pool_stride=2,
        pool_ceil=True,
    ),
    schedule=ScheduleConfig(
        epochs=paper.NO_OVERLAP_EPOCHS,
        weights=paper.NO_OVERLAP_RATES,
        biases=paper.NO_OVERLAP_BIAS_RATES,
        conv1=paper.NO_OVERLAP_CONV1_RATES,
    ),
)

NO_COLOR = SOURCE_2012.derive(
    name="no-color",
    claim="without the colour shift worse by over 1 % top-1 (§4.1)",
    source=OURS,
    citations={"augment.color_*": OURS},
    augment=replace(
        SOURCE_2012.config.augment,
        color_scale="none",
        color_coefficient_std=0.0,
        color_divisor=1.0,
        color_off_epoch=None,
    ),
)

NO_DROPOUT = SOURCE_2012.derive(
    name="no-dropout",
    claim="without dropout the network overfits substantially (§4.2)",
    source=OURS,
    citations={"model.linears.*.after": OURS},
    model=replace(SOURCE_MODEL, linears=(replace(FC6, after=("relu",)), replace(FC7, after=("relu",)), FC8)),
)

NO_WEIGHT_DECAY = SOURCE_2012.derive(
    name="no-weight-decay",
    claim="weight decay lowers the training error, too (§5)",
    source=OURS,
    citations={"optimizer.weight_decay": OURS},
    optimizer=replace(SOURCE_2012.config.optimizer, weight_decay=0.0),
)

WITHOUT_A_LAYER = tuple(
    SOURCE_2012.derive(
        name=f"without-{name}",
        claim="without any one middle layer worse by about 2 % top-1 (§7)",
        source=OURS,
        citations={f"model.convs.{name}": OURS} | citations,
        model=with_convs(*convs),
    )
    for name, convs, citations in (
        ("conv3", (CONV1, CONV2, CONV4, CONV5), {"model.convs.conv4.groups": "ours: so towers first meet at fc6"}),
        ("conv4", (CONV1, CONV2, CONV3, CONV5), {}),
        (
            "conv5",
            (CONV1, CONV2, CONV3, replace(CONV4, after=CONV5.after)),
            {"model.convs.conv4.after": "ours: conv5's pooling stays, and fc6 grows"},
        ),
    )
)

SIX_CONV = SOURCE_2012.derive(
    name="six-conv",
    claim="a sixth convolution over the last pooling layer (§6.1), trained from scratch: what is pre-trained",
    source="net 146",
    citations={
        "model.convs.conv6": "net 146: 128 kernels a tower, 3x3, over both towers, after pool5",
        "schedule.*": "ours: net 146 began with the weights of nets trained on other sets; this is net 145 on 2012",
    },
    model=with_convs(
        *SOURCE_MODEL.convs,
        ConvConfig(
            name="conv6", kernels=256, size=3, padding=(1, 1), weight_std=paper.SOURCE_CONV345_STD, bias=paper.FC_BIAS
        ),
    ),
)

SIX_CONV_FINETUNE = SIX_CONV.derive(
    name="six-conv-finetune",
    claim="1 CNN*, 39.0/16.6 % on LSVRC-2012 validation: pre-trained on Fall 2011, then fine-tuned (Table 2)",
    source="net 146 on 2012, from 2011",
    citations={
        "schedule.*": "net 146 on 2012, from 2011: the notes",
        "schedule.biases": "net 146 on 2012, from 2011: 0.02 in nearly all layers of the finished file",
        "schedule.head": "net 146 on 2012, from 2011: the notes (0.01 there only after 300 batches)",
        "augment.color_off_epoch": "net 146 on 2012, from 2011: the notes",
        "pretrained": "net 146 on 2012, from 2011",
    },
    augment=replace(SOURCE_2012.config.augment, color_off_epoch=paper.FINETUNE_COLOR_OFF_EPOCH),
    schedule=ScheduleConfig(
        epochs=paper.FINETUNE_EPOCHS,
        weights=paper.FINETUNE_RATES,
        biases=paper.UNDROPPED_BIAS_RATES,
        conv1=paper.FINETUNE_CONV1_RATES,
        head=paper.FINETUNE_HEAD_RATES,
    ),
    pretrained="features",
)

ABLATIONS: tuple[Experiment, ...] = (
    ONE_GPU,
    NO_LRN,
    NON_OVERLAPPING_POOLING,
    NO_COLOR,
    NO_DROPOUT,
    NO_WEIGHT_DECAY,
    *WITHOUT_A_LAYER,
    SIX_CONV,
    SIX_CONV_FINETUNE,
)
