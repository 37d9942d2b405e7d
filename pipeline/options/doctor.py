"""What `alexnet doctor` looks at besides the machine itself."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import check


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorConfig:
    """What is looked at besides the machine itself."""

    data: Path | None = None
    """Shard set to prove and to read from, for a few seconds."""
    source: Path | None = None
    """Pictures that are to be preprocessed: a folder or archive to read from, for a few seconds."""
    out: Path | None = None
    """Directory that runs or shards are to be written to, which need not exist yet; None looks at the present one."""
    tracking_uri: str | None = None
    """MLflow server to ask; None takes MLFLOW_TRACKING_URI, where that is set."""
    json: bool = False
    """Print one JSON object instead of the table."""
    all_reduce: bool = False
    """Only time an all-reduce between the ranks that torchrun started: `alexnet torchrun doctor --all-reduce`. Without
    this it is timed, too, between the nodes of a Slurm step and between several GPUs."""

    def __post_init__(self) -> None:
        check(
            not self.all_reduce or (self.data, self.source, self.tracking_uri) == (None, None, None),
            "--all-reduce looks at nothing else: leave out --data, --source and --tracking-uri",
        )
