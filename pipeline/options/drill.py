"""What a drill plays."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import check


@dataclass(frozen=True, kw_only=True, slots=True)
class DrillConfig:
    """A training without trouble, the same with two pre-emptions and a power cut, and what the grace time is."""

    out: Path = Path("runs/drill")
    """Directory of the drill's own; what an earlier drill left there is removed."""
    ranks: int = 2
    """Processes that train together."""
    grace_seconds: float = 120.0
    """Seconds between the signal and the end: the smaller of your site's grace time and --signal-seconds."""
    steps: int = 60
    """Steps of each training."""

    def __post_init__(self) -> None:
        for name in ("ranks", "grace_seconds", "steps"):
            value = getattr(self, name)
            check(value > 0, f"--{name.replace('_', '-')} must be positive, found {value}")
