"""What the stages after preprocessing read, write and may use.

Slots make a second class of each dataclass, which a bare `super()` would miss: hence `super(Class, self)`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import check
from pipeline.options.loading import Device, LoadingConfig, Split

MAX_PREVIEW_IMAGES = 256
"""A picture of more is too large for many programs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewConfig(LoadingConfig):
    """What `augment preview` shows."""

    data: Path
    """Shard set: the directory that `alexnet preprocess` wrote."""
    out: Path | None = None
    """Picture to write, .png or .svg, that must not exist yet; None writes preview-NAME-step-STEP.png."""
    step: int = 0
    """Step whose training batch is shown, counted from 0 at the start of training."""
    num_images: int = 8
    """Pictures of that batch that are shown, from its first on."""
    split: Split | None = None
    """Split whose first picture is shown in ten views; None takes val, or train where there is no val."""
    global_batch_size: int = 128
    """Images per step over all ranks: it decides which pictures a step has, and which share a crop."""
    seed: int = 0
    """Seeds order and augmentation."""
    device: Device = "auto"
    """Where the pictures are decoded and augmented; auto takes the GPU when there is one."""
    json: bool = False
    """Print keys and all that was drawn as JSON."""

    def __post_init__(self) -> None:
        super(PreviewConfig, self).__post_init__()
        fits = self.out is None or self.out.suffix.lower() in (".png", ".svg")
        check(fits, f"--out {self.out} must end in .png or .svg")
        check(self.step >= 0, f"--step must not be negative, found {self.step}")
        check(
            0 < self.num_images <= MAX_PREVIEW_IMAGES,
            f"--num-images must lie in [1, {MAX_PREVIEW_IMAGES}], found {self.num_images}",
        )
        check(self.global_batch_size > 0, f"--global-batch-size must be positive, found {self.global_batch_size}")
        check(
            self.num_images <= self.global_batch_size,
            f"--num-images {self.num_images} is more than the batch of --global-batch-size {self.global_batch_size}: "
            "ask for fewer",
        )
        check(self.seed >= 0, f"--seed must not be negative, found {self.seed}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig(LoadingConfig):
    """What the evaluate stage measures."""

    run: Path
    """Run directory that `alexnet train` wrote."""
    data: Path | None = None
    """Shard set, if it has moved since training."""
    checkpoint: Literal["last", "best"] = "last"
    """The newest checkpoint, or that of the lowest validation error, which no row of the report takes."""
    split: Split = "val"
    """Split whose pictures are classified."""
    views: tuple[Literal["center", "ten"], ...] = ("center", "ten")
    """Views of each picture whose probabilities are averaged: the centre patch, or ten patches."""
    batch_size: int = 256
    """Patches per rank that go through the network at once."""
    neighbours: int = 0
    """Pictures, evenly spread over the split, whose six nearest training pictures are looked for (Fig. 4, right); the
    whole training split then goes through the network once."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""

    def __post_init__(self) -> None:
        super(EvaluateConfig, self).__post_init__()
        check(len(self.views) > 0, "--views must name at least one of center, ten")
        check(self.batch_size > 0, f"--batch-size must be positive, found {self.batch_size}")
        check(self.neighbours >= 0, f"--neighbours must not be negative, found {self.neighbours}")
        check(
            self.neighbours == 0 or self.split != "train",
            "--neighbours looks among the training pictures for those nearest to pictures that were not trained on: "
            "pass --split val or test",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleConfig:
    """Which saved predictions are averaged."""

    runs: tuple[Path, ...]
    """Run directories that `alexnet evaluate` has been through."""
    split: Split = "val"
    """Split whose predictions are averaged."""
    views: Literal["center", "ten"] = "ten"
    """Views that they were made from."""
    out: Path | None = None
    """JSON file to write, which must not exist yet; None only prints."""

    def __post_init__(self) -> None:
        check(len(self.runs) > 1, f"an ensemble needs at least two runs, found {len(self.runs)}")
        check(len(set(self.runs)) == len(self.runs), "an ensemble needs different runs, found one of them twice")
        check(self.out is None or not self.out.exists(), f"--out {self.out} already exists: choose another file")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig:
    """What the report stage reads and writes."""

    runs: tuple[Path, ...]
    """Run directories that `alexnet train` and `alexnet evaluate` wrote."""
    out: Path = Path("results")
    """Directory for report.md, report.html, figures/ and tables/; an earlier report there is replaced, nothing else."""
    tracking_uri: str | None = None
    """MLflow's tracking server whose runs are read, too, as far as they have ended."""
    data: Path | None = None
    """Shard set of runs, whose pictures are shown; None takes each run's own, from where training read it."""
    pictures: bool = True
    """Show pictures of the data set, as Fig. 4 does; not everyone who reads a report may have a license for them."""

    def __post_init__(self) -> None:
        check(
            self.runs or self.tracking_uri,
            "name run directories that `alexnet train` wrote, or give a server with --tracking-uri",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """The tour through all stages on handwritten digits."""

    experiment: Literal["source-2012", "paper"] = "source-2012"
    """What to train: what the winning code did, or what the text says."""
    out: Path = Path("runs/demo")
    """Where pictures, shards, runs and report go; a second start goes on there."""
    processes: int = 2
    """Training processes, each a rank."""

    def __post_init__(self) -> None:
        check(self.processes > 0, f"--processes must be positive, found {self.processes}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvesConfig:
    """Which metric of which runs is drawn."""

    runs: tuple[Path, ...]
    """Run directories that `alexnet train` wrote."""
    metric: str = "train/top1_error"
    """Key of the journal; its mean over each epoch is drawn."""
    threshold: float | None = None
    """Value of the metric, an error as a fraction; the page says when each run first fell below it."""
    out: Path = Path("results/curves")
    """Name, without an ending, of the figure (.svg) and the page (.md); earlier ones are replaced."""

    def __post_init__(self) -> None:
        check(len(self.runs) > 0, "name at least one run directory")
        check(
            self.out.suffix not in {".svg", ".md"},
            f"--out {self.out} is the name of two files: leave out {self.out.suffix}",
        )
