"""Which runs are looked at, or brought to a tracking server."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from pipeline.errors import check


@dataclass(frozen=True, kw_only=True, slots=True)
class RunsConfig:
    """What `alexnet runs` lists."""

    paths: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs"),)
    """Run directories, or folders with some in them."""
    json: bool = False
    """Print a JSON list instead of a table."""

    def __post_init__(self) -> None:
        check(len(self.paths) > 0, "name at least one directory")


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncConfig:
    """What `alexnet sync` brings to MLflow."""

    runs: tuple[Path, ...]
    """Run directories that `alexnet train` wrote, or folders with some in them."""
    tracking_uri: str | None = None
    """Address of MLflow; None takes MLFLOW_TRACKING_URI, or else the sqlite file beside each run."""

    def __post_init__(self) -> None:
        check(len(self.runs) > 0, "name at least one run directory")
