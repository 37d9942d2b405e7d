"""Every number quoted from the paper or from the source, with the place it comes from.

Paper: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012;
cited by section (§) or table. Source: the authors' code, published by the Computer History Museum in 2025; cited by
net (its `layers-N` configurations and their notes). Errors are fractions, never accuracies. What neither of them gives
and others have published is named with its place, too. What the paper claims lies row by row in `pipeline.claims`.
"""

from typing import Literal

# Pictures
IMAGE_PIXELS = 256  # §2: shorter side, then the central square
CROP_PIXELS = 224  # §4.1
PAPER_OFFSETS = 32  # §4.1: "2048" variants are 32 x 32 positions x 2 mirrorings
SOURCE_OFFSETS = 33  # net 145: offsets 0 to 32
SOURCE_IMAGES_PER_CROP = 32  # net 145: one crop and one flip for 32 consecutive images
COLOR_COEFFICIENT_STD = 0.1  # §4.1
SOURCE_COLOR_DIVISOR = 1.1  # net 145: training images are divided by 1 + the coefficient's spread
SOURCE_2010_COLOR_OFF_EPOCH = 68  # net 145
SOURCE_2012_COLOR_OFF_EPOCH = 67  # net 145 on 2012

# Pictures, as others have published them
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # torchvision's weights; RGB on [0, 1], ILSVRC-2012 training pictures
IMAGENET_STD = (0.229, 0.224, 0.225)  # likewise
IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)  # fb.resnet.torch, datasets/imagenet.lua: of RGB on [0, 1], a subset
IMAGENET_EIGENVECTORS = (  # likewise, by column
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
LUMINANCE_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601
CAFFE_CROP_PIXELS = 227  # bvlc_alexnet/train_val.prototxt
CAFFE_BATCH_SIZE = 256  # likewise
CAFFE_BIAS, CAFFE_FC_STD = 0.1, 0.005  # likewise: conv2, conv4, conv5, fc6 and fc7; fc6 and fc7
CAFFE_RATES = ((0, 0.01), (20, 0.001), (40, 1e-4), (60, 1e-5), (80, 1e-6))  # solver.prototxt: 100,000 iterations each
CAFFE_EPOCHS = 90  # solver.prototxt: 450,000 iterations
CAFFE_OFFSETS = 30  # Caffe's data_transformer.cpp: offsets 0 to 256 - 227

CAFFE_LRN_K = 1.0  # caffe.proto
TORCHVISION_RATES = ((0, 0.01), (30, 0.001), (60, 1e-4))  # torchvision, references/classification
TORCHVISION_EPOCHS, TORCHVISION_BATCH_SIZE, TORCHVISION_WEIGHT_DECAY = 90, 256, 1e-4  # likewise; 8 GPUs of 32
ONE_WEIRD_TRICK_KERNELS = (64, 192, 384, 256, 256)  # torchvision, models/alexnet.py

# Network
CLASSES = 1000  # §2
CONV_KERNELS = (96, 256, 384, 384, 256)  # §3.5, over both towers
CONV_SIZES = (11, 5, 3, 3, 3)  # §3.5
CONV1_STRIDE = 4  # §3.5
CONV1_PADDING = (0, 3)  # net 145: 1 + ceil((224 - 11) / 4) = 55, the last window overhangs by 3
FC_UNITS = 4096  # §3.5, over both towers
POOL_SIZE, POOL_STRIDE = 3, 2  # §3.4
DROPOUT = 0.5  # §4.2
LRN_SIZE, LRN_BETA, LRN_K = 5, 0.75, 2.0  # §3.3
PAPER_LRN_ALPHA = 5e-4  # §3.3: 1e-4 undivided, so 5e-4 where alpha is divided by n = 5
SOURCE_LRN_ALPHA = 1e-4  # net 145: divided by n
SOURCE_LOCAL_NORM_SIZE, SOURCE_LOCAL_NORM_ALPHA, SOURCE_LOCAL_NORM_K = 5, 1e-3, 1.0  # net 145, cnorm2: not in the paper
WEIGHT_STD = 0.01  # §5; net 145: conv1, conv2 and all fully connected layers
SOURCE_CONV345_STD = 0.03  # net 145
CONV_BIASES, FC_BIAS = (0.0, 1.0, 0.0, 1.0, 1.0), 1.0  # §5; fc8 has 0
PARAMETERS = 60_965_224  # counted from the layers of §3.5; abstract and §4: 60 million
NEURONS = 659_272  # counted likewise; abstract: 650,000

# What is shown of a network
FIGURE_4_PICTURES, FIGURE_4_LIKELIEST = 8, 5  # Fig. 4, left: test pictures, and the likeliest labels of each
FIGURE_4_QUERIES, FIGURE_4_NEAREST = 5, 6  # Fig. 4, right: test pictures, and the nearest training pictures of each

# The source's CIFAR-10 net (layers-18pct), for Fig. 1
CIFAR_KERNELS, CIFAR_CONV_SIZE = (32, 32, 64), 5
CIFAR_CONV_STDS, CIFAR_FC_STD = (1e-4, 0.01, 0.01), 0.01
CIFAR_RATE, CIFAR_BIAS_RATE = 0.001, 0.002

# Training
BATCH_SIZE = 128  # §5
MOMENTUM = 0.9  # §5
WEIGHT_DECAY = 0.0005  # §5
LEARNING_RATE = 0.01  # §5
PAPER_EPOCHS = 90  # §5: "roughly 90 cycles"
PAPER_DROPS, PAPER_DROP_FACTOR = 3, 10.0  # §5: three times before termination, by 10
SOURCE_BIAS_RATES = ((0, 0.02), (23, 0.002))  # net 145: start and end values; the epoch is inferred from sibling runs
SOURCE_2010_RATES = ((0, 0.01), (23, 0.001), (51, 1e-4), (78, 1e-5))  # net 145, LSVRC-2010
SOURCE_2010_CONV1_RATES = ((68, 1e-5), (72, 0.0))
SOURCE_2010_EPOCHS = 93
SOURCE_2012_RATES = ((0, 0.01), (25, 0.001), (51, 1e-4), (79, 1e-5))  # net 145, LSVRC-2012
SOURCE_2012_CONV1_RATES = ((67, 1e-5), (72, 0.0))
SOURCE_2012_EPOCHS = 91

# Training of the other nets: rates of the weights, of conv1, first epoch without colours, epoch of the end
UNDROPPED_BIAS_RATES = ((0, 0.02),)  # ends of the files of nets 145 (on 2012, a later restart), 145-half, 146, 148
ONE_GPU_RATES = ((0, 0.01), (20, 0.001), (48, 1e-4))  # net 145-half, LSVRC-2010
ONE_GPU_CONV1_RATES = ((66, 1e-5), (72, 0.0))
ONE_GPU_COLOR_OFF_EPOCH, ONE_GPU_EPOCHS = 66, 96
NO_LRN_RATES = ((0, 0.01), (22, 0.001), (44, 1e-4), (86, 1e-5))  # net 148, LSVRC-2012
NO_LRN_CONV1_RATES = ((69, 1e-5), (73, 0.0))
NO_LRN_COLOR_OFF_EPOCH, NO_LRN_EPOCHS = 69, 97
NO_OVERLAP_RATES = ((0, 0.01), (23, 0.001), (51, 1e-4), (79, 1e-5))  # net 147, LSVRC-2012
NO_OVERLAP_BIAS_RATES = ((0, 0.02), (23, 0.002))  # inferred likewise
NO_OVERLAP_CONV1_RATES = ((79, 0.0),)
NO_OVERLAP_EPOCHS = 90
FINETUNE_RATES = ((0, 0.001), (22, 1e-4), (42, 1e-5))  # net 146 on 2012, begun with the weights of 2011
FINETUNE_CONV1_RATES = ((0, 1e-4), (5, 1e-5), (7, 0.0))
FINETUNE_HEAD_RATES = ((0, 0.01), (9, 0.001), (22, 1e-4), (42, 1e-5))  # the notes: 0.001 in the first 300 batches
FINETUNE_COLOR_OFF_EPOCH, FINETUNE_EPOCHS = 38, 54

Dataset = Literal["ILSVRC-2010", "ILSVRC-2012"]

NUM_IMAGES: dict[Dataset, dict[str, int]] = {  # counts of the official archives
    "ILSVRC-2010": {"train": 1_261_406, "val": 50_000, "test": 150_000},
    "ILSVRC-2012": {"train": 1_281_167, "val": 50_000},
}
"""Pictures of the full data sets by split; a run on fewer never takes a row of the report."""

CIFAR10_NUM_IMAGES, CIFAR10_PIXELS = {"train": 50_000, "val": 10_000}, 32  # its test pictures are `val` here

SOURCE_SPREAD_TOP1, SOURCE_SPREAD_TOP5 = 0.411 - 0.40664, 0.187 - 0.18210
"""By how much the worst of the source's sibling runs on 2012 (40.8 to 41.1, 18.3 to 18.7) is worse than Table 2's."""
