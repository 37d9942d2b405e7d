"""The verbs of `alexnet submit`. What they do not know goes to the stage, whose own parser proves it first."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.artifacts import RunDirectory, read_shard_set
from pipeline.commands.command import Command
from pipeline.commands.report import REPORT
from pipeline.commands.stage_words import check_spelling, parse_evaluate, parse_preprocess, parse_train, split_words
from pipeline.errors import check
from pipeline.options import ReportConfig, Split
from pipeline.options.submit import (
    ChainConfig,
    SubmitAblationsConfig,
    SubmitConfig,
    SubmitPreprocessConfig,
    SubmitRanksConfig,
    SubmitReportConfig,
    SubmitReproduceConfig,
    SubmitSeedsConfig,
    SubmitTrainConfig,
)
from pipeline.submit.chains import ChainBuilder, EvaluateWords, choose_ablations, find_split
from pipeline.submit.done import list_splits
from pipeline.submit.jobs import Stage
from pipeline.submit.record import find_shards_folder
from pipeline.submit.request import Request
from pipeline.submit.site import read_site
from pipeline.submit.status import show_status
from pipeline.submit.submission import submit_chain
from pipeline.submit.takedown import take_down

T = TypeVar("T", bound=SubmitConfig)


def start_reproduce(command: Command, words: list[str]) -> None:
    """Submit the whole chain."""
    asked, others = parse_own(
        command, SubmitReproduceConfig, words, operand="[EXPERIMENT]", also=("preprocess", "evaluate")
    )
    name = take_operand(others, "an experiment", default="source-2012")
    source, data, out = str(asked.source.absolute()), asked.data.absolute(), asked.out.absolute()
    request, builder = build_request(asked, "train"), ChainBuilder()
    packing = parse_preprocess(["--source", source, "--out", str(data), *others["preprocess"]])
    builder.add_preprocess(packing, asked.parts, out / "slurm")
    add_run(builder, request, name, data, out, others, splits=list_splits(data, packing.config))
    builder.add_report([out], (asked.results or out / "report").absolute(), out / "slurm")
    submit_chain(builder.build(out / "slurm", asked.parts), request, format_command(command, words))


def start_preprocess(command: Command, words: list[str]) -> None:
    """Submit the array that makes a shard set."""
    asked, others = parse_own(command, SubmitPreprocessConfig, words, stage="preprocess")
    source, out = str(asked.source.absolute()), asked.out.absolute()
    request, builder = build_request(asked, "preprocess"), ChainBuilder()
    folder = find_shards_folder(out)
    builder.add_preprocess(parse_preprocess(["--source", source, "--out", str(out), *others[""]]), asked.parts, folder)
    submit_chain(builder.build(folder, asked.parts), request, format_command(command, words))


def start_train(command: Command, words: list[str]) -> None:
    """Submit one training run."""
    asked, others = parse_own(command, SubmitTrainConfig, words, operand="EXPERIMENT")
    name = take_operand(others, "an experiment")
    data, out = str(asked.data.absolute()), asked.out.absolute()
    request, builder = build_request(asked, "train"), ChainBuilder()
    builder.add_train(parse_train([name, "--data", data, "--out", str(out), *others[""]]), request)
    submit_chain(builder.build(out / "slurm"), request, format_command(command, words))


def start_evaluate(command: Command, words: list[str]) -> None:
    """Submit an evaluation of a run."""
    asked, others = parse_own(command, SubmitRanksConfig, words, operand="RUN", stage="evaluate")
    run = Path(take_operand(others, "a run directory")).absolute()
    request, builder = build_request(asked, "evaluate"), ChainBuilder()
    builder.add_evaluate(parse_evaluate([str(run), *others[""]]))
    submit_chain(builder.build(run / "slurm"), request, format_command(command, words))


def start_report(command: Command, words: list[str]) -> None:
    """Submit the report on runs."""
    asked, others = parse_own(command, SubmitReportConfig, words, operand="RUNS...", stage="report")
    out, request, builder = asked.out.absolute(), build_request(asked, "report"), ChainBuilder()
    config = REPORT.parse(ReportConfig, [*others[""], "--out", str(out)], positional=True)
    for run in config.runs:
        RunDirectory(run).read_record()
    builder.add_report([run.absolute() for run in config.runs], out, out / "slurm")
    submit_chain(builder.build(out / "slurm"), request, format_command(command, words))


def start_ablations(command: Command, words: list[str]) -> None:
    """Submit a run for each claim, and the report over all."""
    asked, others = parse_own(command, SubmitAblationsConfig, words, also=("evaluate",))
    data, out = asked.data.absolute(), asked.out.absolute()
    request, builder = build_request(asked, "train"), ChainBuilder()
    names, left_out = choose_ablations(asked.only, read_shard_set(data))
    builder.said += left_out
    for name in names:
        add_run(builder, request, name, data, out / name, others, mark=f"-{name}")
    builder.add_report([out / name for name in names], out / "report", out / "slurm", after_any=True)
    submit_chain(builder.build(out / "slurm"), request, format_command(command, words))


def start_seeds(command: Command, words: list[str]) -> None:
    """Submit runs that differ in their seed, and their ensemble."""
    asked, others = parse_own(command, SubmitSeedsConfig, words, operand="N EXPERIMENT", also=("evaluate",))
    count = take_operand(others, "how many runs, as in `alexnet submit seeds 5 source-2012`")
    check(count.isdigit() and int(count) > 1, f"name first how many runs, at least 2, found {count!r}")
    name = take_operand(others, "an experiment after the number of runs")
    check(not any(word.split("=")[0] == "--seed" for word in others[""]), "leave out --seed: each run has its own")
    data, out = asked.data.absolute(), asked.out.absolute()
    request, builder = build_request(asked, "train"), ChainBuilder()
    for seed in range(int(count)):
        of_run = {**others, "": [*others[""], "--seed", str(seed)]}
        evaluation = add_run(builder, request, name, data, out / f"seed-{seed}", of_run, mark=f"-seed-{seed}")
    runs = [out / f"seed-{seed}" for seed in range(int(count))]
    builder.add_ensemble(runs, evaluation.config, out / "ensemble.json", out / "slurm")
    submit_chain(builder.build(out / "slurm"), request, format_command(command, words))


def start_status(command: Command, words: list[str]) -> None:
    """Show where the jobs stand."""
    show_status(command.parse(ChainConfig, words, positional=True))


def start_cancel(command: Command, words: list[str]) -> None:
    """Take the jobs out of the queue."""
    take_down(command.parse(ChainConfig, words, positional=True))


def add_run(
    builder: ChainBuilder,
    request: Request,
    name: str,
    data: Path,
    out: Path,
    others: Mapping[str, list[str]],
    *,
    mark: str = "",
    splits: Iterable[Split] = (),
) -> EvaluateWords:
    """Add a training run and its evaluation, on the split of the claim that the experiment serves.

    Args:
        builder: of the chain.
        request: what is asked of Slurm.
        name: experiment.
        data: shard set.
        out: run directory.
        others: words of the stages.
        mark: what tells the names of this run's jobs from those of others.
        splits: of the shard set; none to look.

    Returns:
        What the evaluation is asked for.
    """
    builder.add_train(parse_train([name, "--data", str(data), "--out", str(out), *others[""]]), request, f"train{mark}")
    split = find_split(name, splits or list_splits(data))
    evaluation = parse_evaluate([str(out), *(["--split", split] if split != "val" else []), *others["evaluate"]])
    builder.add_evaluate(evaluation, f"evaluate{mark}", train=f"train{mark}")
    return evaluation


def take_operand(others: Mapping[str, list[str]], what: str, *, default: str | None = None) -> str:
    """Take the first word that is left, unless it is a flag.

    Raises:
        InputError: there is none, and no default.
    """
    words = others[""]
    if words and not words[0].startswith("-"):
        return words.pop(0)
    check(default is not None, f"name {what} first")
    return default or ""


def parse_own(
    command: Command,
    kind: type[T],
    words: list[str],
    *,
    operand: str = "",
    stage: str = "train",
    also: Sequence[str] = (),
) -> tuple[T, dict[str, list[str]]]:
    """Take what submit knows out of the words.

    Args:
        command: the verb.
        kind: what submit knows.
        words: of the command line.
        operand: for the usage line.
        stage: that the other words are for.
        also: stages that take flags as `--STAGE.FLAG`.

    Returns:
        What submit knows, and the rest by stage, as `split_words` has it.

    Raises:
        InputError: what submit knows does not fit.
    """
    own, others = split_words(kind, words, also)
    check_spelling(kind, others[""])
    flags = "".join(f", --{name}.FLAG to `alexnet {name}`" for name in also)
    about = f"{command.summary}.\n\nAll other flags go to `alexnet {stage}`{flags}, and are proved at once."
    return command.parse(kind, own, operand=operand, about=about), others


def build_request(asked: SubmitConfig, main: Stage) -> Request:
    """What is asked of Slurm.

    Raises:
        InputError: the site file is missing or no site file, or an option of --sbatch does not fit.
    """
    return Request(config=asked, site=read_site(asked.site), main=main)


def format_command(command: Command, words: list[str]) -> str:
    """The command line, as a person would type it again."""
    return shlex.join(["alexnet", *command.name.split(), *words])


VERBS: dict[str, Callable[[Command, list[str]], None]] = {
    "reproduce": start_reproduce,
    "preprocess": start_preprocess,
    "train": start_train,
    "evaluate": start_evaluate,
    "report": start_report,
    "ablations": start_ablations,
    "seeds": start_seeds,
    "status": start_status,
    "cancel": start_cancel,
}
