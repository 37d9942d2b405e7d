"""Every claim of the paper, in its order. Paper and source as in `pipeline.paper`; errors are fractions."""

from pipeline.claims.claim import (
    Claim,
    Dataset,
    EpochRatio,
    ErrorRate,
    ErrorRise,
    Errors,
    EvaluatedSplit,
    GapRise,
    KernelColors,
    Neighbours,
    NetworkCount,
    TrainingErrorRise,
    TrainingTime,
)

TWO_TOWERS: tuple[tuple[str, Dataset], ...] = (
    ("source-2012", "ILSVRC-2012"),
    ("source-2010", "ILSVRC-2010"),
    ("paper", "ILSVRC-2010"),
)
UNPUBLISHED = "the labels of that set were never published"

LSVRC_2010 = (
    Claim(
        key="lsvrc-2010-ten",
        text="CNN, ten views",
        where="Table 1",
        paper=Errors(top1=0.375, top5=0.170),
        source=Errors(top1=0.374727, top5=0.169987),
        source_log_loss=1.6147,
        source_net="145",
        measure=ErrorRate(members=(("source-2010", 1),), dataset="ILSVRC-2010", split="test"),
    ),
    Claim(
        key="lsvrc-2010-center",
        text="CNN, centre crop",
        where="§6, footnote 5",
        paper=Errors(top1=0.390, top5=0.183),
        source=Errors(top1=0.390247, top5=0.182953),
        source_log_loss=1.7060,
        source_net="145",
        measure=ErrorRate(members=(("source-2010", 1),), dataset="ILSVRC-2010", split="test", views="center"),
    ),
    Claim(
        key="lsvrc-2010-text",
        text="CNN, ten views, trained as the text says",
        where="Table 1",
        paper=Errors(top1=0.375, top5=0.170),
        measure=ErrorRate(members=(("paper", 1),), dataset="ILSVRC-2010", split="test"),
    ),
    Claim(
        key="sparse-coding",
        text="Sparse coding",
        where="Table 1",
        paper=Errors(top1=0.471, top5=0.282),
        by_others=True,
    ),
    Claim(
        key="sift-fvs",
        text="SIFT + FVs",
        where="Table 1",
        paper=Errors(top1=0.457, top5=0.257),
        by_others=True,
    ),
)

ABLATIONS = (
    Claim(
        key="one-gpu",
        text="One GPU instead of two: worse by",
        where="§3.2",
        paper=Errors(top1=0.017, top5=0.012),
        source=Errors(top1=0.39168 - 0.374727, top5=0.18229 - 0.169987),
        source_net="145-half",
        measure=ErrorRise(experiment="one-gpu", baseline="source-2010", dataset="ILSVRC-2010", split="test"),
        note="the source's nets: 39.17/18.23 against 37.47/17.00; conv5, fc6 and fc7 keep the width of both towers",
    ),
    Claim(
        key="no-lrn",
        text="Without response normalisation: worse by",
        where="§3.3",
        paper=Errors(top1=0.014, top5=0.012),
        source=Errors(top1=0.42034 - 0.40664, top5=0.19362 - 0.18210),
        source_net="148",
        measure=ErrorRise(experiment="no-lrn", baseline="source-2012", dataset="ILSVRC-2012", split="val"),
        note="the source's nets: 42.03/19.36 against 40.66/18.21; its second norm, cnorm2, is taken away, too",
    ),
    Claim(
        key="non-overlapping-pooling",
        text="Pooling without overlap: worse by",
        where="§3.4",
        paper=Errors(top1=0.004, top5=0.003),
        source=Errors(top1=0.41058 - 0.40664, top5=0.18510 - 0.18210),
        source_net="147",
        measure=ErrorRise(
            experiment="non-overlapping-pooling", baseline="source-2012", dataset="ILSVRC-2012", split="val"
        ),
        note="the source's nets: 41.06/18.51 against 40.66/18.21; conv2 has a padding of 1 there, and conv5 none",
    ),
    Claim(
        key="no-color",
        text="Without the colour shift: worse by over",
        where="§4.1",
        paper=Errors(top1=0.01, top5=None),
        precision=0.01,
        at_least=True,
        measure=ErrorRise(experiment="no-color", baseline="source-2012", dataset="ILSVRC-2012", split="val"),
    ),
    *(
        Claim(
            key=f"without-{layer}",
            text=f"Without the middle layer {layer}: worse by about",
            where="§7",
            paper=Errors(top1=0.02, top5=None),
            precision=0.01,
            measure=ErrorRise(
                experiment=f"without-{layer}", baseline="source-2012", dataset="ILSVRC-2012", split="val"
            ),
        )
        for layer in ("conv3", "conv4", "conv5")
    ),
    Claim(
        key="dropout-overfitting",
        text="Without dropout: overfits",
        where="§4.2",
        paper="substantially",
        measure=GapRise(experiment="no-dropout", baseline="source-2012", dataset="ILSVRC-2012"),
        note="takes `alexnet evaluate RUN --split train --views center` of both, too",
    ),
    Claim(
        key="dropout-iterations",
        text="Dropout: as many iterations to converge",
        where="§4.2",
        paper="about twice",
        note="no experiment: the rates of no-dropout drop at the same epochs as with dropout",
    ),
    Claim(
        key="weight-decay",
        text="Without weight decay: training error",
        where="§5",
        paper="higher",
        measure=TrainingErrorRise(experiment="no-weight-decay", baseline="source-2012", dataset="ILSVRC-2012"),
    ),
)

CIFAR_10 = (
    Claim(
        key="figure-1",
        text="tanh against ReLU: epochs to 25% training error on CIFAR-10",
        where="§3.1, Fig. 1",
        paper="6 times as many",
        measure=EpochRatio(experiment="fig1-tanh", baseline="fig1-relu", dataset="CIFAR-10", threshold=0.25, times=6.0),
    ),
    Claim(
        key="lrn-cifar-10",
        text="Response normalisation on CIFAR-10: test error",
        where="§3.3",
        paper="13% without, 11% with",
        note="no experiment: the source's net for it has locally connected layers",
    ),
)

COMPETITION = (
    Claim(
        key="one-cnn-2012",
        text="1 CNN, validation",
        where="Table 2",
        paper=Errors(top1=0.407, top5=0.182),
        source=Errors(top1=0.40664, top5=0.18210),
        source_log_loss=1.7415,
        source_net="145 on 2012",
        measure=ErrorRate(members=(("source-2012", 1),), dataset="ILSVRC-2012", split="val"),
        note="a later restart of the source's run, at a higher rate again, ended at 40.25/17.99",
    ),
    Claim(
        key="five-cnns-2012",
        text="5 CNNs, validation",
        where="Table 2",
        paper=Errors(top1=0.381, top5=0.164),
        measure=ErrorRate(members=(("source-2012", 5),), dataset="ILSVRC-2012", split="val"),
        note="the source's sibling runs, each alone: 40.8 to 41.1/18.3 to 18.7; top-5 on the test set: 16.4; "
        + UNPUBLISHED,
    ),
    Claim(
        key="one-cnn-pretrained",
        text="1 CNN* (pre-trained on Fall 2011), validation",
        where="Table 2",
        paper=Errors(top1=0.390, top5=0.166),
        source=Errors(top1=0.38990, top5=0.16622),
        source_net="146",
        measure=ErrorRate(members=(("six-conv-finetune", 1),), dataset="ILSVRC-2012", split="val"),
    ),
    Claim(
        key="seven-cnns-pretrained",
        text="7 CNNs*, validation",
        where="Table 2",
        paper=Errors(top1=0.367, top5=0.154),
        measure=ErrorRate(members=(("source-2012", 5), ("six-conv-finetune", 2)), dataset="ILSVRC-2012", split="val"),
        note=f"top-5 on the test set: 15.3; {UNPUBLISHED}",
    ),
    Claim(
        key="fall-2009",
        text="Fall 2009, 10,184 classes, half of the pictures to test",
        where="§6",
        paper=Errors(top1=0.674, top5=0.409),
        note="no experiment: that release is not among the data sets here",
    ),
    Claim(
        key="runner-up",
        text="SIFT + FVs, second in 2012, test",
        where="Table 2",
        paper=Errors(top1=None, top5=0.262),
        by_others=True,
    ),
)

NETWORK = (
    Claim(
        key="parameters",
        text="Parameters",
        where="abstract, §4",
        paper="60 million",
        measure=NetworkCount(experiment="source-2012", of="parameters", number=60_000_000),
    ),
    Claim(
        key="neurons",
        text="Neurons",
        where="abstract",
        paper="650,000",
        measure=NetworkCount(experiment="source-2012", of="neurons", number=650_000),
    ),
    Claim(
        key="time",
        text="Time of 90 epochs of 1.2 million pictures",
        where="§5",
        paper="5 to 6 days on two GTX 580 of 3 GB",
        measure=TrainingTime(choices=TWO_TOWERS),
    ),
    Claim(
        key="figure-3",
        text="96 kernels of 11×11×3, learned in two towers",
        where="§6.1, Fig. 3",
        paper="one tower's largely colour-agnostic, the other's colour-specific, in every run",
        measure=KernelColors(choices=TWO_TOWERS),
    ),
    Claim(
        key="figure-4",
        text="Eight test pictures with their five likeliest labels; five with their six nearest in fc7",
        where="§6.1, Fig. 4",
        paper="shown",
        measure=Neighbours(choices=TWO_TOWERS),
    ),
)

CLAIMS: tuple[Claim, ...] = (*LSVRC_2010, *ABLATIONS, *CIFAR_10, *COMPETITION, *NETWORK)


def find_splits(experiment: str) -> set[EvaluatedSplit]:
    """The splits on which the paper states an error that a single experiment is for, or what it is worse by."""
    return {
        claim.measure.split
        for claim in CLAIMS
        if isinstance(claim.measure, ErrorRate | ErrorRise) and claim.measure.experiments[0] == experiment
    }
