"""The command line: parses, starts one stage, and turns what a person can put right into one sentence."""

import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import tyro

from pipeline.config import AugmentConfig, ExperimentConfig
from pipeline.errors import InputError, RunError, check
from pipeline.experiments import (
    AUGMENTATIONS,
    EXPERIMENTS,
    Experiment,
    get_augmentation,
    get_experiment,
    get_status,
)
from pipeline.options import (
    AugmentBenchConfig,
    DemoConfig,
    EvaluateConfig,
    InspectConfig,
    MergeConfig,
    PreprocessBenchConfig,
    PreprocessConfig,
    PreviewConfig,
    RepairConfig,
    ReportConfig,
    RuntimeConfig,
    StatusConfig,
    TrainBenchConfig,
    VerifyConfig,
)
from pipeline.parsing import parse_words

T = TypeVar("T")
INPUT_ERROR_CODE, RUN_ERROR_CODE, INTERRUPTED_CODE = 2, 1, 130
SECOND_SPEAKER_SECONDS = 5.0
SYSTEM_ADVICE = {
    errno.ENOSPC: "make room on the disk of --out or of the run, then run it again (train: with --resume)",
    errno.EDQUOT: "make room within your quota, then run it again (train: with --resume)",
    errno.EACCES: "choose files that you may read and directories that you may write to",
    errno.EROFS: "choose a directory on a disk that can be written to",
}
INTERRUPTED_ADVICE = {
    "preprocess": ", the same command goes on from here",
    "train": ", go on from the newest checkpoint with --resume",
    "demo": ", the same command goes on from here",
}


@dataclass(frozen=True)
class NoOptions:
    """A command that takes nothing."""


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; exits with 2 for what the caller can put right, with 1 for what went wrong on the way."""
    words = sys.argv[1:] if words is None else list(words)
    if not words or words[0] in ("-h", "--help"):
        print(format_help())
        return
    num_words = 2 if " ".join(words[:2]) in COMMANDS else 1
    name, rest = " ".join(words[:num_words]), list(words[num_words:])
    if f"preprocess {name}" in COMMANDS:
        fail(f"alexnet: unknown command {name!r}: did you mean `alexnet preprocess {name}`?")
    if name not in COMMANDS:
        fail(f"alexnet: unknown command {name!r}: choose one of {', '.join(n for n in COMMANDS if ' ' not in n)}")
    try:
        COMMANDS[name].start(rest)
    except (InputError, RunError) as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(SECOND_SPEAKER_SECONDS)  # a mistake of all is said by the first, whose end ends the others
        fail(f"alexnet {name}: {error}", INPUT_ERROR_CODE if isinstance(error, InputError) else RUN_ERROR_CODE)
    except BrokenPipeError:  # whoever reads has enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - Python would flush into the pipe once more
        sys.exit(INTERRUPTED_CODE)
    except OSError as error:  # a full disk, a directory without permission, a file that vanished
        advice = SYSTEM_ADVICE.get(error.errno or 0, "look at that file or connection, then try again")
        fail(f"alexnet {name}: {error}: {advice}", RUN_ERROR_CODE)
    except KeyboardInterrupt:
        fail(f"alexnet {name}: interrupted{INTERRUPTED_ADVICE.get(name, '')}", INTERRUPTED_CODE)


def fail(sentence: str, code: int = INPUT_ERROR_CODE) -> NoReturn:
    """Say one sentence on standard error and exit."""
    print(sentence, file=sys.stderr, flush=True)
    sys.exit(code)


def format_help() -> str:
    """What `alexnet --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: alexnet COMMAND ...",
            "",
            "AlexNet (2012) reproduced on ImageNet: what the paper says, and what the code that won did.",
            "",
            *lines,
            "",
            "alexnet COMMAND --help tells what a command takes. On several GPUs or nodes:",
            "torchrun --nproc-per-node GPUS -m pipeline train EXPERIMENT ...",
        ]
    )


def parse(kind: type[T], words: list[str], *, prog: str, description: str | None = None, positional: bool = False) -> T:
    """Parse the words of a command; its summary is the description where none is given."""
    summary = (COMMANDS.get(prog) or COMMANDS[prog.split(maxsplit=1)[0]]).summary
    return parse_words(kind, words, prog=f"alexnet {prog}", description=description or summary, positional=positional)


def split_experiment(words: list[str], *, command: str) -> tuple[Experiment, list[str]]:
    """Take the experiment's name off the front of the words.

    Raises:
        InputError: there is none of that name, or none is named.
    """
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: alexnet {command} EXPERIMENT [OPTIONS]\n\n{format_experiments()}\n")
        print(f"alexnet {command} EXPERIMENT --help lists the options with that experiment's values.")
        if words:
            sys.exit(0)
        raise InputError("name an experiment first")
    if words[0].startswith("-"):
        raise InputError(f"name the experiment before {words[0]}: one of {', '.join(EXPERIMENTS)}")
    return get_experiment(words[0]), words[1:]


def take_augmentation(config: ExperimentConfig, words: list[str]) -> tuple[ExperimentConfig, list[str]]:
    """Take `--augmentation NAME` out of the words, and put the augmentation of that name into the configuration.

    Raises:
        InputError: there is none of that name, or none is named.
    """
    flag = "--augmentation"
    if not any(word == flag or word.startswith(f"{flag}=") for word in words):
        return config, words
    split = [part for word in words for part in (word.split("=", 1) if word.startswith(f"{flag}=") else [word])]
    place = split.index(flag)
    check(place + 1 < len(split), f"{flag} needs a name: choose one of {', '.join(AUGMENTATIONS)}")
    config = replace(config, augment=get_augmentation(split[place + 1]))
    return config, split[:place] + split[place + 2 :]


def format_experiments() -> str:
    """The named experiments with claim and source."""
    from tabulate import tabulate

    rows = [(experiment.name, experiment.claim, experiment.source) for experiment in EXPERIMENTS.values()]
    return tabulate(rows, headers=("experiment", "claim", "source"), maxcolwidths=[None, 60, 40])


def start_preprocess(words: list[str]) -> None:
    """Pack pictures into shards."""
    verbs = [name.split()[1] for name in COMMANDS if name.startswith("preprocess ")]
    if words and not words[0].startswith("-"):
        raise InputError(f"unknown {words[0]!r}: choose one of {', '.join(verbs)}, or pass --source and --out")
    description = f"{COMMANDS['preprocess'].summary}\n\nBeside it: alexnet preprocess {' | '.join(verbs)}"
    config = parse(PreprocessConfig, words, prog="preprocess", description=description)
    from pipeline.preprocess.stage import preprocess

    preprocess(config)


def start_merge(words: list[str]) -> None:
    """Describe a shard set whose parts are done."""
    config = parse(MergeConfig, words, prog="preprocess merge", positional=True)
    from pipeline.preprocess.stage import merge

    merge(config)


def start_status(words: list[str]) -> None:
    """Say how far a shard set is."""
    config = parse(StatusConfig, words, prog="preprocess status", positional=True)
    from pipeline.preprocess.status import show_status

    show_status(config)


def start_verify(words: list[str]) -> None:
    """Prove a shard set."""
    config = parse(VerifyConfig, words, prog="preprocess verify", positional=True)
    from pipeline.preprocess.verify import verify

    if not verify(config):
        sys.exit(RUN_ERROR_CODE)


def start_repair(words: list[str]) -> None:
    """Mend a shard set."""

    @dataclass(frozen=True, kw_only=True)
    class Arguments(RepairConfig):
        shards: tyro.conf.Positional[Path]
        """Shard set."""

    config = parse(Arguments, words, prog="preprocess repair")
    from pipeline.preprocess.repair import repair

    repair(config)


def start_inspect(words: list[str]) -> None:
    """Show samples of a shard set."""
    config = parse(InspectConfig, words, prog="preprocess inspect", positional=True)
    from pipeline.preprocess.inspect import inspect

    inspect(config)


def start_augment(words: list[str]) -> None:
    """Say what there is for augmentation."""
    if words and words[0] in ("-h", "--help"):
        print(f"usage: alexnet augment preview NAME ...\n\n{COMMANDS['augment'].summary}\n")
        print(f"  preview  {COMMANDS['augment preview'].summary}")
        sys.exit(0)
    found = f"unknown {words[0]!r}: " if words and not words[0].startswith("-") else ""
    raise InputError(f"{found}name what to do: preview, as in `alexnet augment preview source-2012 --data SHARDS`")


def start_augment_preview(words: list[str]) -> None:
    """Show what the network sees, with any field of the augmentation overridden."""
    kinds = f"an experiment ({', '.join(EXPERIMENTS)}) or an augmentation ({', '.join(AUGMENTATIONS)})"
    if words and words[0] in ("-h", "--help"):
        print(f"usage: alexnet augment preview NAME --data SHARDS [OPTIONS]\n\nNAME is {kinds}.\n")
        print("alexnet augment preview NAME --help lists the options with the values of that name.")
        sys.exit(0)
    check(words and not words[0].startswith("-"), f"name what to show first: {kinds}")
    name, *rest = words
    check(name in EXPERIMENTS or name in AUGMENTATIONS, f"unknown {name!r}: choose {kinds}")
    config, defaults = EXPERIMENTS[name].config if name in EXPERIMENTS else None, PreviewConfig(data=tyro.MISSING)
    registered = config.augment if config else AUGMENTATIONS[name]
    if config:
        defaults = replace(defaults, global_batch_size=config.global_batch_size, seed=config.seed)

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        preview: Annotated[PreviewConfig, tyro.conf.arg(name="")] = defaults
        augment: AugmentConfig = registered

    arguments = parse(Arguments, rest, prog=f"augment preview {name}", description=COMMANDS["augment preview"].summary)
    from pipeline.augment.preview import preview

    num_epochs = EXPERIMENTS[name].config.schedule.epochs if name in EXPERIMENTS else None
    preview(name, registered, arguments.augment, arguments.preview, num_epochs=num_epochs)


def start_train(words: list[str]) -> None:
    """Train an experiment, with any of its fields overridden."""
    experiment, rest = split_experiment(words, command="train")
    registered, rest = take_augmentation(experiment.config, rest)

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        runtime: Annotated[RuntimeConfig, tyro.conf.arg(name="")]
        config: Annotated[ExperimentConfig, tyro.conf.arg(name="")] = registered

    arguments = parse(
        Arguments,
        rest,
        prog=f"train {experiment.name}",
        description=f"{experiment.claim} ({experiment.source}). A run with changed values is marked modified. "
        f"--augmentation NAME takes another augmentation first: {', '.join(AUGMENTATIONS)}.",
    )
    from pipeline.train.stage import train

    train(experiment.name, arguments.config, arguments.runtime)


def start_evaluate(words: list[str]) -> None:
    """Evaluate a run's newest checkpoint."""
    config = parse(EvaluateConfig, words, prog="evaluate", positional=True)
    from pipeline.evaluate.stage import evaluate

    evaluate(config)


def start_report(words: list[str]) -> None:
    """Write the report."""
    config = parse(ReportConfig, words, prog="report", positional=True)
    from pipeline.report.stage import report

    report(config)


def start_describe(words: list[str]) -> None:
    """Print an experiment's layers."""
    experiment, rest = split_experiment(words, command="describe")

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        config: Annotated[ExperimentConfig, tyro.conf.arg(name="")] = experiment.config

    config = parse(Arguments, rest, prog=f"describe {experiment.name}").config
    from pipeline.model.describe import describe_layers, format_layers

    print(f"{experiment.name} ({get_status(experiment.name, config)}): {experiment.claim}\n")
    print(format_layers(describe_layers(config.model, input_pixels=config.augment.input_pixels)))


def start_experiments(words: list[str]) -> None:
    """Print the named experiments."""
    parse(NoOptions, words, prog="experiments")
    print(format_experiments())


def start_doctor(words: list[str]) -> None:
    """Look at the machine."""
    parse(NoOptions, words, prog="doctor")
    from pipeline.launch.doctor import diagnose

    if not diagnose():
        sys.exit(RUN_ERROR_CODE)


def start_sync(words: list[str]) -> None:
    """Bring a run's journal to MLflow."""

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        run: Path
        """Run directory that `alexnet train` wrote."""

    from pipeline.artifacts import RunDirectory
    from pipeline.tracking import sync_or_warn

    run = RunDirectory(parse(Arguments, words, prog="sync", positional=True).run)
    run.read_record()
    if not sync_or_warn(run):
        sys.exit(RUN_ERROR_CODE)
    print(f"sync: MLflow has all of {run.journal}")


def start_demo(words: list[str]) -> None:
    """Run every stage on handwritten digits."""
    config = parse(DemoConfig, words, prog="demo")
    from pipeline.launch.demo import demo

    demo(config)


def start_bench(words: list[str]) -> None:
    """Say which benchmarks there are."""
    names = [name for name in COMMANDS if name.startswith("bench ")]
    if words and words[0] in ("-h", "--help"):
        lines = [f"  {name:<16}  {COMMANDS[name].summary}" for name in names]
        print("\n".join(["usage: alexnet bench STAGE ...", "", COMMANDS["bench"].summary, "", *lines]))
        sys.exit(0)
    raise InputError(f"name what to time: {' or '.join(names)}")


def start_bench_preprocess(words: list[str]) -> None:
    """Time preprocessing and its peers."""
    config = parse(PreprocessBenchConfig, words, prog="bench preprocess")
    from pipeline.launch.bench_preprocess import bench_preprocess

    bench_preprocess(config)


def start_bench_augment(words: list[str]) -> None:
    """Time the loader and its peers."""
    config = parse(AugmentBenchConfig, words, prog="bench augment")
    from pipeline.launch.bench_augment import bench_augment

    bench_augment(config)


def start_bench_train(words: list[str]) -> None:
    """Time loader and training step."""
    config = parse(TrainBenchConfig, words, prog="bench train")
    from pipeline.launch.bench_train import bench_train

    bench_train(config)


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the command line."""

    summary: str
    start: Callable[[list[str]], None]


COMMANDS: dict[str, Command] = {
    "preprocess": Command(
        "ImageNet's archives or class folders → proved shards of 256×256 pictures, statistics", start_preprocess
    ),
    "preprocess status": Command("how far a shard set is, and the command that does the rest", start_status),
    "preprocess merge": Command("describes a shard set whose parts are all done", start_merge),
    "preprocess verify": Command("proves a shard set by its checksums; --deep decodes every picture", start_verify),
    "preprocess repair": Command("packs anew what is missing or damaged in a shard set", start_repair),
    "preprocess inspect": Command("a contact sheet of a shard set's pictures with their classes", start_inspect),
    "augment": Command("what the network sees of a shard set: the command below", start_augment),
    "augment preview": Command(
        "a picture of a training batch, ten views and the mean, with what was drawn", start_augment_preview
    ),
    "train": Command("an experiment on a shard set → checkpoints, journal, MLflow", start_train),
    "evaluate": Command("a run's newest checkpoint → exact errors, saved predictions", start_evaluate),
    "report": Command("runs → a page that sets the paper's numbers beside the measured ones", start_report),
    "experiments": Command("lists the named experiments with claim and source", start_experiments),
    "describe": Command("prints an experiment's layers: shapes, parameters, multiply-adds, memory", start_describe),
    "sync": Command("brings a run's journal to MLflow, when the server was away", start_sync),
    "doctor": Command("looks at this machine and says what to mend", start_doctor),
    "bench": Command("times a stage on this machine: one of the three below", start_bench),
    "bench preprocess": Command("preprocessing beside its peers and beside the codecs alone", start_bench_preprocess),
    "bench augment": Command(
        "the loader beside its peers, with the same work, and what its options do", start_bench_augment
    ),
    "bench train": Command("the loader and the training step, alone and together", start_bench_train),
    "demo": Command("every stage on handwritten digits, in minutes, without a download", start_demo),
}
