"""`alexnet doctor`, `bench`, `demo` and `contrast`: this machine, every stage on it, and recipes side by side."""

import sys

from pipeline.commands.command import Command
from pipeline.errors import RUN_ERROR_CODE, InputError
from pipeline.options import (
    AugmentBenchConfig,
    CommunicationBenchConfig,
    ContrastConfig,
    DemoConfig,
    DoctorConfig,
    LayersBenchConfig,
    PreprocessBenchConfig,
    SyncBenchConfig,
    TrainBenchConfig,
)


def start_doctor(command: Command, words: list[str]) -> None:
    """Look at the machine."""
    config = command.parse(DoctorConfig, words)
    from pipeline.launch.doctor.stage import diagnose

    if not diagnose(config):
        sys.exit(RUN_ERROR_CODE)


def start_bench(command: Command, words: list[str]) -> None:
    """Say which benchmarks there are."""
    if words and words[0] in ("-h", "--help"):
        lines = [f"  {bench.name:<16}  {bench.summary}" for bench in BENCH[1:]]
        print("\n".join(["usage: alexnet bench STAGE ...", "", command.summary, "", *lines]))
        sys.exit(0)
    raise InputError(f"name what to time: {' or '.join(bench.name for bench in BENCH[1:])}")


def start_bench_preprocess(command: Command, words: list[str]) -> None:
    """Time preprocessing and its peers."""
    config = command.parse(PreprocessBenchConfig, words)
    from pipeline.launch.bench_preprocess import bench_preprocess

    bench_preprocess(config)


def start_bench_augment(command: Command, words: list[str]) -> None:
    """Time the loader and its peers."""
    config = command.parse(AugmentBenchConfig, words)
    from pipeline.launch.bench_augment import bench_augment

    bench_augment(config)


def start_bench_train(command: Command, words: list[str]) -> None:
    """Time loader and training step."""
    config = command.parse(TrainBenchConfig, words)
    from pipeline.launch.bench_train import bench_train

    bench_train(config)


def start_bench_layers(command: Command, words: list[str]) -> None:
    """Time norms and dropout beside torch's own."""
    config = command.parse(LayersBenchConfig, words)
    from pipeline.launch.bench_layers import bench_layers

    bench_layers(config)


def start_bench_communication(command: Command, words: list[str]) -> None:
    """Count the bytes that a step sends."""
    config = command.parse(CommunicationBenchConfig, words)
    from pipeline.launch.bench_communication import bench_communication

    bench_communication(config)


def start_bench_sync(command: Command, words: list[str]) -> None:
    """Time how a long run gets to MLflow."""
    config = command.parse(SyncBenchConfig, words)
    from pipeline.launch.bench_sync import bench_sync

    bench_sync(config)


def start_demo(command: Command, words: list[str]) -> None:
    """Run every stage on handwritten digits."""
    config = command.parse(DemoConfig, words)
    from pipeline.launch.demo import demo

    demo(config)


def start_contrast(command: Command, words: list[str]) -> None:
    """Train recipes side by side."""
    config = command.parse(ContrastConfig, words)
    from pipeline.launch.contrast import contrast

    contrast(config)


DOCTOR = Command("doctor", "looks at this machine and says what to mend", start_doctor)
BENCH = (
    Command("bench", "times a stage on this machine: one of those below", start_bench),
    Command("bench preprocess", "preprocessing beside its peers and beside the codecs alone", start_bench_preprocess),
    Command(
        "bench augment", "the loader beside its peers, with the same work, and what its options do", start_bench_augment
    ),
    Command("bench train", "the loader and the training step, alone and together", start_bench_train),
    Command("bench layers", "norms and dropout beside torch's own, and their share of a step", start_bench_layers),
    Command(
        "bench communication",
        "bytes that a step sends: plain data parallelism, towers, one weird trick",
        start_bench_communication,
    ),
    Command("bench sync", "a long run's way to MLflow: seconds and memory", start_bench_sync),
)
DEMO = Command("demo", "every stage on handwritten digits, in minutes, without a download", start_demo)
CONTRAST = Command("contrast", "six recipes on handwritten digits, and which of them leave chance", start_contrast)
