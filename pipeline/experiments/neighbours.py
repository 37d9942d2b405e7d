"""The AlexNets that others have published, and the same network with today's recipe."""

from dataclasses import replace

from pipeline import paper
from pipeline.config import (
    AugmentConfig,
    ConvConfig,
    ExperimentConfig,
    LinearConfig,
    ModelConfig,
    OptimizerConfig,
    ResponseNormConfig,
    ScheduleConfig,
)
from pipeline.experiments.augmentations import AUGMENTATIONS
from pipeline.experiments.experiment import Experiment
from pipeline.experiments.two_towers import PAPER_STEPS, Steps, build_convs, build_linears

CAFFE_CONVS = build_convs(
    after=PAPER_STEPS,
    stds=(paper.WEIGHT_STD,) * 5,
    biases=(0.0, paper.CAFFE_BIAS, 0.0, paper.CAFFE_BIAS, paper.CAFFE_BIAS),
)

CAFFE = Experiment(
    name="caffe",
    claim="no claim of the paper: BVLC's replication, 57.1/80.2 % accuracy, so 42.9/19.8 % error (centre crop)",
    source="bvlc_alexnet",
    config=ExperimentConfig(
        augment=AUGMENTATIONS["caffe"],
        model=ModelConfig(
            convs=(replace(CAFFE_CONVS[0], padding=(0, 0)), *CAFFE_CONVS[1:]),
            linears=build_linears(std=paper.CAFFE_FC_STD, bias=paper.CAFFE_BIAS),
            towers=1,
            lrn=ResponseNormConfig(
                size=paper.LRN_SIZE, alpha=paper.SOURCE_LRN_ALPHA, beta=paper.LRN_BETA, k=paper.CAFFE_LRN_K
            ),
            inverted_dropout=True,
        ),
        optimizer=OptimizerConfig(bias_weight_decay=0.0, lr_in_momentum=True),
        schedule=ScheduleConfig(
            epochs=paper.CAFFE_EPOCHS, weights=paper.CAFFE_RATES, biases=tuple((e, 2 * r) for e, r in paper.CAFFE_RATES)
        ),
        global_batch_size=paper.CAFFE_BATCH_SIZE,
    ),
    citations={
        "augment.*": "bvlc_alexnet/train_val.prototxt, Caffe's data_transformer.cpp",
        "augment.crop_pixels": "bvlc_alexnet/train_val.prototxt, pictures warped: `alexnet preprocess --resize warp`",
        "model.*": "bvlc_alexnet/train_val.prototxt",
        "model.towers": "Caffe's norm runs across both groups",
        "model.lrn.k": "Caffe's default",
        "model.inverted_dropout": "Caffe's dropout_layer.cpp",
        "optimizer.*": "bvlc_alexnet/solver.prototxt, lr_mult and decay_mult of train_val.prototxt",
        "schedule.*": "bvlc_alexnet/solver.prototxt: 100,000 of 450,000 iterations are 20 of 90 epochs",
        "schedule.biases": "lr_mult 2 of train_val.prototxt, likewise",
        "global_batch_size": "bvlc_alexnet/train_val.prototxt",
    },
)

TORCHVISION_STEPS: tuple[Steps, ...] = (
    ("relu", "pool"),
    ("relu", "pool"),
    ("relu",),
    ("relu",),
    ("relu", "pool", "dropout"),
)

TORCHVISION_MODEL = ModelConfig(
    convs=tuple(
        ConvConfig(
            name=f"conv{i + 1}",
            kernels=paper.ONE_WEIRD_TRICK_KERNELS[i],
            size=paper.CONV_SIZES[i],
            stride=paper.CONV1_STRIDE if i == 0 else 1,
            padding=(2, 2) if i < 2 else (1, 1),
            after=TORCHVISION_STEPS[i],
            weight_std="torch",
            bias="torch",
        )
        for i in range(5)
    ),
    linears=(
        LinearConfig(name="fc6", units=paper.FC_UNITS, weight_std="torch", bias="torch"),
        LinearConfig(name="fc7", units=paper.FC_UNITS, after=("relu",), weight_std="torch", bias="torch"),
        LinearConfig(name="fc8", units=None, after=(), weight_std="torch", bias="torch"),
    ),
    towers=1,
    inverted_dropout=True,
)

ONE_WEIRD_TRICK = Experiment(
    name="one-weird-trick",
    claim="no claim of the paper: torchvision's `alexnet`, 56.5/79.1 % accuracy, so 43.5/20.9 % error (centre crop)",
    source="torchvision, models/alexnet.py",
    config=ExperimentConfig(
        augment=AUGMENTATIONS["modern"],
        model=TORCHVISION_MODEL,
        optimizer=OptimizerConfig(
            weight_decay=paper.TORCHVISION_WEIGHT_DECAY,
            bias_weight_decay=paper.TORCHVISION_WEIGHT_DECAY,
            lr_in_momentum=False,
        ),
        schedule=ScheduleConfig(
            epochs=paper.TORCHVISION_EPOCHS,
            weights=paper.TORCHVISION_RATES,
            biases=paper.TORCHVISION_RATES,
        ),
        global_batch_size=paper.TORCHVISION_BATCH_SIZE,
    ),
    citations={
        "model.*": "torchvision, models/alexnet.py",
        "model.convs.*.kernels": "Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks",
        **dict.fromkeys(("model.*.weight_std", "model.*.bias"), "PyTorch's default, for models/alexnet.py draws none"),
        "optimizer.*": "torchvision, references/classification",
        "optimizer.lr_in_momentum": "torch.optim.SGD",
        "schedule.*": "torchvision, references/classification",
        "augment.*": "torchvision, references/classification",
        "global_batch_size": "torchvision, references/classification: 32 on each of 8 GPUs",
    },
)

FINETUNE = ONE_WEIRD_TRICK.derive(
    name="finetune",
    claim="no claim of the paper: torchvision's weights with a new last layer, as a widely read tutorial does it",
    source="tutorial",
    citations={
        "augment.*": "tutorial",
        "optimizer.*": "tutorial: momentum 0.9, no decay",
        "optimizer.lr_in_momentum": "torch.optim.SGD",
        "schedule.*": "tutorial",
        "schedule.features": "tutorial; at 0.1 as its option, at 0 frozen",
        "global_batch_size": "tutorial",
        "pretrained": "tutorial",
        "model.num_classes": "tutorial: cats and dogs",
    },
    augment=AugmentConfig(mean="channel", pixel_scale="std", statistics="imagenet", color_scale="none"),
    model=replace(TORCHVISION_MODEL, num_classes=2),
    optimizer=OptimizerConfig(weight_decay=0.0, bias_weight_decay=0.0, lr_in_momentum=False),
    schedule=ScheduleConfig(
        epochs=3,
        weights=((0, 0.001), (1, 1e-4), (2, 1e-5)),
        biases=((0, 0.001), (1, 1e-4), (2, 1e-5)),
    ),
    global_batch_size=128,
    pretrained="features",
)

MODERN_CONVS = tuple(
    replace(conv, weight_std="kaiming")
    for conv in build_convs(after=PAPER_STEPS, stds=(paper.WEIGHT_STD,) * 5, biases=(0.0,) * 5)
)

MODERN = Experiment(
    name="modern",
    claim="no claim of the paper: the two-tower network of §3.5 with today's recipe",
    source="ours",
    config=ExperimentConfig(
        augment=AUGMENTATIONS["modern"],
        model=ModelConfig(convs=MODERN_CONVS, linears=build_linears(bias=0.0), inverted_dropout=True),
        optimizer=OptimizerConfig(lr_in_momentum=False),
        schedule=ScheduleConfig(
            epochs=90,
            weights=((0, paper.LEARNING_RATE),),
            biases=((0, paper.LEARNING_RATE),),
            warmup_epochs=5,
            cosine=True,
            batch_rule="linear",
            rates_for_batch=paper.BATCH_SIZE,
        ),
        global_batch_size=1024,
        precision="bfloat16",
    ),
    citations={
        "augment.*": "torchvision, references/classification",
        "model.convs.*": "§3.5",
        "model.convs.conv1.padding": "net 145: the last window overhangs by 3",
        "model.convs.*.weight_std": "He et al. 2015",
        "model.convs.*.bias": "ours",
        "model.lrn.*": "§3.3; alpha divided by n as in net 145",
        "model.inverted_dropout": "PyTorch's dropout",
        "optimizer.*": "§5",
        "optimizer.bias_weight_decay": "ours: none on biases, as in net 145",
        "optimizer.lr_in_momentum": "torch.optim.SGD",
        "optimizer.lars": "You et al. 2017, for batches of several thousand",
        **dict.fromkeys(("schedule.weights", "schedule.biases"), "§5: 0.01 for a batch of 128"),
        **dict.fromkeys(("schedule.warmup_epochs", "schedule.batch_rule"), "Goyal et al. 2017"),
        "schedule.cosine": "Loshchilov and Hutter 2017",
    },
)

NEIGHBOURS: tuple[Experiment, ...] = (CAFFE, ONE_WEIRD_TRICK, FINETUNE, MODERN)
