"""A run directory: configuration, journal, checkpoints, predictions, figures."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.artifacts.files import read_json, write_json
from pipeline.artifacts.shard_set import ShardSet, read_shard_set
from pipeline.config import ExperimentConfig
from pipeline.errors import check
from pipeline.options import Layout, PackingConfig, Split


def format_commit(commit: str, *, dirty: bool) -> str:
    """A commit in short, and whether the code differed from it."""
    return commit[:12] + (" + changes" if dirty else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """One start of a run, the first or a resumed one: which code, where, by which command."""

    command: str
    commit: str
    dirty: bool
    machine: str
    device: str
    world_size: int
    tools: dict[str, str]
    time: float
    """When, in Unix seconds."""
    hosts: tuple[str, ...]
    """Names of the nodes, in order of their first rank; a report does not show them."""
    slurm_job_id: str | None = None
    image: str | None = None
    """Container image, as ALEXNET_IMAGE names it."""

    def format_commit(self) -> str:
        """The commit in short, and whether the code differed from it."""
        return format_commit(self.commit, dirty=self.dirty)

    def format_machine(self) -> str:
        """Processes, device and machine."""
        return f"{self.world_size} on {self.device}, {self.machine}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """`config.json` of a run: what was asked for, on which data, every start, and the weights that it began with.

    `id` is the run's alone; a copy of its directory is the same run.
    """

    id: str
    experiment: str
    status: str
    config: ExperimentConfig
    data: str
    data_digest: str
    data_layout: Layout
    data_complete: bool
    data_packing: PackingConfig
    num_dropped_images: int
    num_train_images: int
    num_val_images: int
    starts: tuple[Start, ...]
    weights: str | None = None
    weights_digest: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DamagedImage:
    """A picture that could not be decoded and was left out."""

    split: Split
    position: int
    sentence: str


@dataclass(frozen=True, slots=True)
class ShardSetWithMean(ShardSet):
    """A shard set whose mean image gives way to the one that imported weights were trained with."""

    mean_file: Path

    def read_mean_image(self) -> npt.NDArray[np.float32]:
        """Mean image of the imported weights: (side, side, 3) float32, 0-255."""
        mean: npt.NDArray[np.float32] = np.load(self.mean_file)
        return mean


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths within the directory of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.json"

    @property
    def journal(self) -> Path:
        """Every metric, append-only."""
        return self.path / "journal.jsonl"

    @property
    def dataset(self) -> Path:
        """A copy of the shard set's `dataset.json`, for where the set is out of reach."""
        return self.path / "dataset.json"

    @property
    def checkpoints(self) -> Path:
        """Directory of `step-N.pt`."""
        return self.path / "checkpoints"

    @property
    def predictions(self) -> Path:
        """Directory of saved probabilities and counts."""
        return self.path / "predictions"

    @property
    def neighbours(self) -> Path:
        """Directory of the training pictures found nearest to others."""
        return self.path / "neighbours"

    @property
    def figures(self) -> Path:
        """Directory of pictures."""
        return self.path / "figures"

    @property
    def system(self) -> Path:
        """Directory of `NODE.jsonl`, the load of each node."""
        return self.path / "system"

    @property
    def kernels(self) -> Path:
        """The first layer's kernels as of the newest checkpoint: (kernels, channels, height, width) float32."""
        return self.figures / "conv1.npy"

    @property
    def lock(self) -> Path:
        """Held by the process that trains here."""
        return self.path / "lock"

    @property
    def is_free(self) -> bool:
        """Whether a run may begin here: nothing is there yet, or what Slurm jobs and a start without record left."""
        left = {self.lock, self.slurm, self.dataset}
        return not self.path.exists() or (self.path.is_dir() and not set(self.path.iterdir()) - left)

    @property
    def slurm(self) -> Path:
        """Directory of what Slurm jobs leave: the submission, logs, and how ranks ended."""
        return self.path / "slurm"

    @property
    def damaged(self) -> Path:
        """The pictures that were left out because they could not be decoded; there is no file where none was."""
        return self.path / "damaged.json"

    @property
    def mean_image(self) -> Path:
        """The mean image that imported weights came with; there is no file where they, or the run, have the set's."""
        return self.path / "mean_image.npy"

    def open_data(self, record: RunRecord, data: Path | None) -> ShardSet:
        """Open the shard set of the run.

        Args:
            record: the run's.
            data: where the set lies now, from --data; None for where it lay.

        Raises:
            InputError: there is none, or it is another set.
        """
        shard_set = read_shard_set(data or Path(record.data))
        check(
            shard_set.info.digest == record.data_digest,
            f"{shard_set.path} is not the shard set that {self.path} was trained on (digest "
            f"{shard_set.info.digest[:12]}, expected {record.data_digest[:12]}): pass the right one with --data",
        )
        if self.mean_image.is_file():
            return ShardSetWithMean(shard_set.path, shard_set.info, self.mean_image)
        return shard_set

    def read_record(self) -> RunRecord:
        """Read `config.json`.

        Raises:
            InputError: this is no run directory, or the file does not fit.
        """
        check(self.config.is_file(), f"{self.path} has no config.json: pass a directory that `alexnet train` wrote")
        return read_json(self.config, RunRecord)


def find_runs(path: Path) -> Iterator[Path]:
    """Yield the run directories in or below a path, those of submitted jobs that have not begun, too, by name."""
    for folder, below, files in os.walk(path):
        if "config.json" in files or (Path(folder) / "slurm" / "submission.json").is_file():
            yield Path(folder)
            below.clear()
        below[:] = sorted(name for name in below if name[0] != "." and name != "mlflow-artifacts")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRecord:
    """`predictions/SPLIT-VIEWS-step-N.json`: exact counts; the probabilities lie beside it as `.npz`.

    `num_skipped` pictures of the split could not be decoded and are in no count. `commit` is that of the code that
    evaluated, which differed from it where `dirty`.
    """

    split: Split
    views: Literal["center", "ten"]
    step: int
    epoch: int
    num_images: int
    num_top1_errors: int
    num_top5_errors: int
    log_loss: float
    data_digest: str
    commit: str
    dirty: bool
    num_skipped: int = 0

    @property
    def top1_error(self) -> float:
        """Share of pictures whose likeliest label is wrong."""
        return self.num_top1_errors / self.num_images

    @property
    def top5_error(self) -> float:
        """Share of pictures whose label is not among the five likeliest."""
        return self.num_top5_errors / self.num_images


def list_steps(checkpoints: Path) -> list[int]:
    """Steps of the checkpoints `step-N.pt` in a directory, in order."""
    names = (re.fullmatch(r"step-(\d+)\.pt", path.name) for path in checkpoints.glob("step-*.pt"))
    return sorted(int(name[1]) for name in names if name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """A training picture, and its Euclidean distance from a query."""

    position: int
    label: int
    key: str
    distance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A picture of the split, and the training pictures nearest to it: nearest first, of equal ones by position."""

    position: int
    label: int
    key: str
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NeighboursRecord:
    """`neighbours/SPLIT-step-N.json`: nearest by the activations of the last hidden layer, as in Fig. 4.

    Those of `num_units` units of `layer`, after its nonlinearity; of `num_images` training pictures. `num_skipped` more
    of them, or of those asked for, could not be decoded. `commit` and `dirty` are those of the code that looked.
    """

    split: Split
    step: int
    epoch: int
    layer: str
    num_units: int
    num_images: int
    num_skipped: int
    data_digest: str
    commit: str
    dirty: bool
    queries: tuple[Query, ...]


def record_damage(run: RunDirectory, found: Sequence[Sequence[DamagedImage]]) -> None:
    """Add what each rank found damaged to the run's list; nothing is written where nothing was found."""
    known = read_json(run.damaged, tuple[DamagedImage, ...]) if run.damaged.is_file() else ()
    merged = {(image.split, image.position): image for images in (known, *found) for image in images}
    if len(merged) > len(known):
        write_json(run.damaged, [merged[key] for key in sorted(merged)])
