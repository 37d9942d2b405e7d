"""The command line: parses, starts one stage, and turns what a person can put right into one sentence."""

import contextlib
import errno
import io
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import tyro

from pipeline.config import ExperimentConfig
from pipeline.errors import InputError, RunError
from pipeline.experiments import EXPERIMENTS, Experiment, get_experiment, get_status
from pipeline.options import BenchConfig, DemoConfig, EvaluateConfig, PreprocessConfig, ReportConfig, RuntimeConfig

T = TypeVar("T")
INPUT_ERROR_CODE, RUN_ERROR_CODE, INTERRUPTED_CODE = 2, 1, 130
SECOND_SPEAKER_SECONDS = 5.0
SYSTEM_ADVICE = {
    errno.ENOSPC: "make room on the disk of --out or of the run, then run it again (train: with --resume)",
    errno.EACCES: "choose files that you may read and directories that you may write to",
    errno.EROFS: "choose a directory on a disk that can be written to",
}
INTERRUPTED_ADVICE = {
    "preprocess": ", the unfinished shard set was removed",
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
    name, rest = words[0], list(words[1:])
    if name not in COMMANDS:
        fail(f"alexnet: unknown command {name!r}: choose one of {', '.join(COMMANDS)}")
    try:
        COMMANDS[name].start(rest)
    except (InputError, RunError) as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(SECOND_SPEAKER_SECONDS)  # a mistake of all is said by the first, whose end ends the others
        fail(f"alexnet {name}: {error}", INPUT_ERROR_CODE if isinstance(error, InputError) else RUN_ERROR_CODE)
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
    """Parse words into a dataclass with tyro; what does not fit becomes one `InputError`.

    Args:
        kind: the dataclass.
        words: of the command line, after the command.
        prog: command's name in the help.
        description: first lines of the help; the summary of the command by default.
        positional: take required fields without a flag.
    """
    markers = (tyro.conf.PositionalRequiredArgs, tyro.conf.PositionalMetavarFromFieldName) if positional else ()
    summary = COMMANDS[prog.split(maxsplit=1)[0]].summary
    panel = io.StringIO()
    try:
        with contextlib.redirect_stderr(panel):
            return tyro.cli(
                kind, args=words, prog=f"alexnet {prog}", description=description or summary, config=markers
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise InputError(f"{flatten_panel(panel.getvalue())} (see `alexnet {prog} --help`)") from end


def flatten_panel(panel: str) -> str:
    """Tyro's framed message as a sentence, without the help texts that it repeats."""
    lines = [line.rstrip("│ ")[2:] for line in panel.splitlines()[1:]]  # a title, then two columns of frame
    kept = [line.strip() for line in lines if not re.match(r"( {8}|[─-]|For full helptext|.* --help$)", line)]
    sentence = re.split(r" Argument helptext:| Got errors:", " ".join(filter(None, kept)))[0]
    return re.sub(r"^Error parsing [\w.]+: (?=--)", "", sentence)


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


def format_experiments() -> str:
    """The named experiments with claim and source."""
    from tabulate import tabulate

    rows = [(experiment.name, experiment.claim, experiment.source) for experiment in EXPERIMENTS.values()]
    return tabulate(rows, headers=("experiment", "claim", "source"), maxcolwidths=[None, 60, 40])


def start_preprocess(words: list[str]) -> None:
    """Pack pictures into shards."""
    config = parse(PreprocessConfig, words, prog="preprocess")
    from pipeline.preprocess.stage import preprocess

    preprocess(config)


def start_train(words: list[str]) -> None:
    """Train an experiment, with any of its fields overridden."""
    experiment, rest = split_experiment(words, command="train")

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        runtime: Annotated[RuntimeConfig, tyro.conf.arg(name="")]
        config: Annotated[ExperimentConfig, tyro.conf.arg(name="")] = experiment.config

    arguments = parse(
        Arguments,
        rest,
        prog=f"train {experiment.name}",
        description=f"{experiment.claim} ({experiment.source}). A run with changed values is marked modified.",
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
    print(format_layers(describe_layers(config.model, crop_pixels=config.augment.crop_pixels)))


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
    """Time loader and training step."""
    config = parse(BenchConfig, words, prog="bench")
    from pipeline.launch.bench import bench

    bench(config)


@dataclass(frozen=True, slots=True)
class Command:
    """One word of the command line."""

    summary: str
    start: Callable[[list[str]], None]


COMMANDS: dict[str, Command] = {
    "preprocess": Command(
        "class folders of pictures → verified shards of 256×256 JPEGs and their statistics", start_preprocess
    ),
    "train": Command("an experiment on a shard set → checkpoints, journal, MLflow", start_train),
    "evaluate": Command("a run's newest checkpoint → exact errors, saved predictions", start_evaluate),
    "report": Command("runs → a page that sets the paper's numbers beside the measured ones", start_report),
    "experiments": Command("lists the named experiments with claim and source", start_experiments),
    "describe": Command("prints an experiment's layers: shapes, parameters, multiply-adds, memory", start_describe),
    "sync": Command("brings a run's journal to MLflow, when the server was away", start_sync),
    "doctor": Command("looks at this machine and says what to mend", start_doctor),
    "bench": Command("times the loader and the training step on this machine", start_bench),
    "demo": Command("every stage on handwritten digits, in minutes, without a download", start_demo),
}
