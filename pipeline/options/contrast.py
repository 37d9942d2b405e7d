"""What the contrast of recipes trains, and with how much of the machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pipeline.errors import check
from pipeline.options.loading import count_cores_per_rank

RecipeName = Literal[
    "source",
    "source-rate-0.01",
    "source-inverted-dropout",
    "text",
    "text-std-0.03",
    "text-std-0.03-bias-0.1",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastConfig:
    """Which recipes are trained side by side."""

    data: Path | None = None
    """Shard set; None makes that of the handwritten digits in OUT/digits."""
    out: Path = Path("runs/contrast")
    """Where the runs go, as OUT/RECIPE/seed-N; a second start goes on there."""
    results: Path | None = None
    """Name, without an ending, of the figure (.svg) and the page (.md), earlier ones are replaced; None takes
    OUT/contrast."""
    recipes: tuple[RecipeName, ...] = get_args(RecipeName)
    """What to train."""
    seeds: int = 3
    """Runs of each recipe, with seeds from 0."""
    epochs: int = 6
    """Passes of each run over the training set."""
    width: float = 0.25
    """Share of all kernels and units, in one tower; 0.25 is one tower of 2012 at half its width."""
    jobs: int = 1
    """Runs side by side."""
    threads: int = count_cores_per_rank()
    """Threads of each run, for arithmetic (OMP_NUM_THREADS) and for loading."""

    def __post_init__(self) -> None:
        check(len(self.recipes) > 0, f"--recipes must name at least one of {', '.join(get_args(RecipeName))}")
        check(len(set(self.recipes)) == len(self.recipes), "--recipes names a recipe twice")
        for name in ("seeds", "epochs", "width", "jobs", "threads"):
            check(getattr(self, name) > 0, f"--{name} must be positive, found {getattr(self, name)}")
        check(
            self.results is None or self.results.suffix not in {".svg", ".md"},
            f"--results {self.results} is the name of two files: leave out the ending",
        )
