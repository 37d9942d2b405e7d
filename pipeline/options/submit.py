"""What `alexnet submit` asks Slurm for, and where the stages that it submits read and write.

Slots make a second class of each dataclass, which a bare `super()` would miss: hence `super(Class, self)`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.errors import check

TIME_LIMIT = re.compile(r"(?:\d+-\d+(?::\d+){0,2}|\d+(?::\d+){0,2}|UNLIMITED|INFINITE)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitConfig:
    """What every job asks for; None leaves it to slurm/site.env, then to the script's header, then to Slurm."""

    partition: str | None = None
    """Partition; jobs that need no GPU take CPU_PARTITION of slurm/site.env where it is set."""
    account: str | None = None
    """Account that the time is charged to."""
    qos: str | None = None
    """Quality of service."""
    time: str | None = None
    """Time limit as Slurm writes it, such as 4:00:00 or 1-12:00:00, of each job that trains, or of the one that is
    submitted; the other jobs of a chain take it where their scripts ask for more."""
    max_requeues: int | None = None
    """Times that a job may put itself back into the queue, at its time limit or when pre-empted; None is 100."""
    signal_seconds: int = 120
    """Seconds before its time limit at which a job stops at a checkpoint and requeues itself."""
    sbatch: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Anything else for sbatch, as in --sbatch "--exclude=node7 --mem=100G"; with a stage and a colon before it, as in
    --sbatch "preprocess:--cpus-per-task=64", for the jobs of that stage only."""
    site: Path | None = None
    """What this cluster asks for; None is slurm/site.env."""
    dry_run: bool = False
    """Print the sbatch lines as a script that does the same, and submit nothing."""
    json: bool = False
    """Print JSON."""

    def __post_init__(self) -> None:
        check(
            self.time is None or TIME_LIMIT.fullmatch(self.time),
            f"--time {self.time} is no time limit: write minutes, H:MM:SS, D-HH or D-HH:MM:SS",
        )
        check(
            self.max_requeues is None or self.max_requeues >= 0,
            f"--max-requeues must not be negative, found {self.max_requeues}",
        )
        check(self.signal_seconds > 0, f"--signal-seconds must be positive, found {self.signal_seconds}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitRanksConfig(SubmitConfig):
    """What the jobs ask for that train or evaluate in several ranks."""

    nodes: int | None = None
    """Nodes of each job that trains, or of the one that is submitted; None is what the script asks for, 1."""
    gpus_per_node: int | None = None
    """GPUs of each node, a rank each; 0 on nodes without, None is what the script asks for, 2."""
    ranks_per_node: int | None = None
    """Ranks of each node where they are not as many as its GPUs: on CPUs."""
    max_restarts: int | None = None
    """Times that a job starts its ranks again after one was killed, before it gives up; None is 3."""

    def __post_init__(self) -> None:
        super(SubmitRanksConfig, self).__post_init__()
        for name, least in (("nodes", 1), ("gpus_per_node", 0), ("ranks_per_node", 1), ("max_restarts", 0)):
            value = getattr(self, name)
            flag = f"--{name.replace('_', '-')}"
            check(value is None or value >= least, f"{flag} must be at least {least}, found {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitPreprocessConfig(SubmitConfig):
    """Pictures to a shard set, as an array of jobs."""

    source: Path
    """Pictures, as of `alexnet preprocess`."""
    out: Path
    """Shard set to write; what is done of it is not done again."""
    parts: int = 16
    """Jobs of the array; each does its share of the shards."""

    def __post_init__(self) -> None:
        super(SubmitPreprocessConfig, self).__post_init__()
        check(self.parts > 0, f"--parts must be positive, found {self.parts}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitTrainConfig(SubmitRanksConfig):
    """One training run."""

    data: Path
    """Shard set."""
    out: Path
    """Run directory; one that was begun is gone on with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitReproduceConfig(SubmitRanksConfig):
    """The whole chain: preprocess, train, evaluate, report."""

    source: Path
    """Pictures, as of `alexnet preprocess`."""
    data: Path
    """Shard set to make of them; a finished one is taken as it is."""
    out: Path
    """Run directory; one that was begun is gone on with."""
    parts: int = 16
    """Jobs of the preprocessing array."""
    results: Path | None = None
    """Directory for the report; None takes OUT/report."""

    def __post_init__(self) -> None:
        super(SubmitReproduceConfig, self).__post_init__()
        check(self.parts > 0, f"--parts must be positive, found {self.parts}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitReportConfig(SubmitConfig):
    """The page on several runs."""

    out: Path = Path("results")
    """Directory for the report; an earlier report there is replaced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitSeedsConfig(SubmitRanksConfig):
    """Several runs of one experiment that differ in their seed."""

    data: Path
    """Shard set."""
    out: Path
    """Directory for the runs, OUT/seed-N; those that were begun are gone on with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitAblationsConfig(SubmitRanksConfig):
    """A run for each claim of the paper that this shard set can answer."""

    data: Path
    """Shard set of ImageNet."""
    out: Path
    """Directory for the runs, OUT/EXPERIMENT; those that were begun are gone on with."""
    only: tuple[str, ...] = ()
    """Experiments, rather than all that serve a claim."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainConfig:
    """Which submission is looked at, or taken down."""

    path: Path
    """Run directory, folder of run directories, or shard set."""
    json: bool = False
    """Print JSON."""
