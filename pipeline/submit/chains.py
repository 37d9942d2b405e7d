"""Which jobs each verb of `alexnet submit` needs, and which it does not because their work is done."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import paper
from pipeline.artifacts import RunDirectory, ShardSet, Split
from pipeline.claims import find_splits
from pipeline.config import ExperimentConfig
from pipeline.errors import check
from pipeline.experiments import EXPERIMENTS, Experiment, get_experiment
from pipeline.options import EvaluateConfig, PreprocessConfig, RuntimeConfig
from pipeline.report.page import check_own_page
from pipeline.submit.checks import check_data, check_ranks, check_run, check_source, check_weights
from pipeline.submit.done import find_missing_parts, is_evaluated, is_trained
from pipeline.submit.jobs import Chain, Job
from pipeline.submit.request import Request

NO_CLAIM = "no claim of the paper"
"""How an experiment's claim begins that serves none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessWords:
    """Words of `alexnet preprocess`, with absolute paths, and what its own parser made of them."""

    words: tuple[str, ...]
    config: PreprocessConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainWords:
    """Words of `alexnet train`, with absolute paths, and what its own parser made of them."""

    words: tuple[str, ...]
    experiment: str
    config: ExperimentConfig
    runtime: RuntimeConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateWords:
    """Words of `alexnet evaluate`, with absolute paths, and what its own parser made of them."""

    words: tuple[str, ...]
    config: EvaluateConfig


class ChainBuilder:
    """Jobs in order, each after those before it that it needs, and what is said of those that are done already."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.said: list[str] = []

    def build(self, folder: Path, num_parts: int | None = None) -> Chain:
        """The chain, whose own record goes into `folder`."""
        needed = num_parts if any(job.array for job in self.jobs) else None
        return Chain(folder=folder, jobs=tuple(self.jobs), said=tuple(self.said), num_parts=needed)

    def list_submitted(self, *names: str) -> tuple[str, ...]:
        """Those of the names that have a job in this chain."""
        return tuple(job.name for job in self.jobs if job.name in names)

    def add_preprocess(self, asked: PreprocessWords, num_parts: int, folder: Path) -> None:
        """An array of the parts that have something to do."""
        out = asked.config.out
        check_source(asked.config)
        array = find_missing_parts(out, num_parts)
        if array is None:
            self.said.append(f"{out} is a finished shard set: nothing to preprocess")
            return
        self.jobs.append(
            Job(name="preprocess", stage="preprocess", folder=folder, makes=out, words=asked.words, array=array)
        )

    def add_train(self, asked: TrainWords, request: Request, name: str = "train") -> None:
        """A training run, unless it has come to its end."""
        run, config = RunDirectory(asked.runtime.out), asked.config
        check_ranks(config, asked.runtime, request.count_ranks("train"))
        after = self.list_submitted("preprocess")
        shard_set = None if after else check_data(asked.runtime.data, config)
        check_run(run, asked.experiment, config, shard_set.info.digest if shard_set else None)
        check_weights(run, config, asked.runtime.weights)
        if is_trained(run, max_steps=asked.runtime.max_steps):
            self.said.append(f"{run.path} is trained to its end: nothing to train")
            return
        self.jobs.append(
            Job(name=name, stage="train", folder=run.slurm, makes=run.path, words=asked.words, after=after)
        )

    def add_evaluate(self, asked: EvaluateWords, name: str = "evaluate", *, train: str = "train") -> None:
        """An evaluation of a run, after its training, unless its newest checkpoint has been measured."""
        run, after = RunDirectory(asked.config.run), self.list_submitted(train)
        if not after:
            run.read_record()
            if is_evaluated(run, asked.config):
                self.said.append(f"{run.path} is evaluated on {asked.config.split}: nothing to evaluate")
                return
        self.jobs.append(
            Job(name=name, stage="evaluate", folder=run.slurm, makes=run.path, words=asked.words, after=after)
        )

    def add_ensemble(self, runs: Sequence[Path], evaluated: EvaluateConfig, out: Path, folder: Path) -> None:
        """The mean of runs that were evaluated alike, unless its file is there."""
        if out.is_file():
            self.said.append(f"{out} is there: nothing to average")
            return
        views = "ten" if "ten" in evaluated.views else "center"
        words = (*map(str, runs), "--split", evaluated.split, "--views", views, "--out", str(out))
        after = tuple(job.name for job in self.jobs if job.stage == "evaluate")
        self.jobs.append(Job(name="ensemble", stage="ensemble", folder=folder, makes=out, words=words, after=after))

    def add_report(self, runs: Iterable[Path], out: Path, folder: Path, *, after_any: bool = False) -> None:
        """The report over runs, after all evaluations of this chain."""
        check_own_page(out / "report.md", "report")
        words = (*map(str, runs), "--out", str(out))
        after = tuple(job.name for job in self.jobs if job.stage == "evaluate")
        self.jobs.append(
            Job(name="report", stage="report", folder=folder, makes=out, words=words, after=after, after_any=after_any)
        )


def find_split(experiment: str, splits: Iterable[Split]) -> Split:
    """The split on which the paper states the error that an experiment is for, where it is one of `splits`; or val."""
    return "test" if "test" in find_splits(experiment) & set(splits) else "val"


def choose_ablations(only: Sequence[str], shard_set: ShardSet) -> tuple[list[str], list[str]]:
    """The experiments that serve a claim of the paper which this shard set can answer.

    Args:
        only: names to choose from them; nothing for all.
        shard_set: ImageNet.

    Returns:
        Names of experiments, and a sentence for each one that is left out.

    Raises:
        InputError: one that is named is unknown, or cannot be trained on this shard set alone.
    """
    obstacles = {name: find_obstacle(get_experiment(name), shard_set) for name in only or EXPERIMENTS}
    named = [f"{name} {obstacle}" for name, obstacle in obstacles.items() if obstacle]
    check(not (only and named), f"--only {'; '.join(named)}: leave it out, or train it by itself")
    chosen = [name for name, obstacle in obstacles.items() if obstacle is None]
    return chosen, [f"left out: {sentence}" for sentence in named if NO_CLAIM not in sentence]


def find_obstacle(experiment: Experiment, shard_set: ShardSet) -> str | None:
    """Why an experiment is none of the ablations on a shard set; None if it is one."""
    layout, year = shard_set.info.layout, re.search(r"LSVRC-(20\d\d)", experiment.claim)
    has = {"ilsvrc2010": "2010", "ilsvrc2012": "2012"}.get(layout, "2012")
    if experiment.claim.startswith(NO_CLAIM):
        return f"serves {NO_CLAIM}"
    if experiment.config.pretrained != "none":
        return "begins with the weights of another network (train --weights)"
    if experiment.config.model.num_classes != paper.CLASSES:
        return f"is trained on other pictures than ImageNet's, of {experiment.config.model.num_classes} classes"
    if year and year[1] != has:
        return f"serves a claim on ILSVRC-{year[1]}, and {shard_set.path} is taken for ILSVRC-{has}"
    return None
