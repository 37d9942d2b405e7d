"""What the benchmarks time, and where their numbers go."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import check
from pipeline.options.loading import Device, LoadingConfig, count_cores_per_rank


@dataclass(frozen=True, kw_only=True, slots=True)
class PreprocessBenchConfig:
    """What is timed, and where the numbers go."""

    source: Path | None = None
    """Folder that holds pictures, at any depth; None paints noise first, into a temporary folder."""
    out: Path = Path("results/preprocess")
    """Directory for the JSON file and its tables."""
    num_sampled: int = 200
    """Pictures that each variant goes through, the same for all."""
    num_rounds: int = 5
    """Times that it does; the quickest counts, which other work on the machine disturbed least."""
    num_packed: int = 6000
    """Pictures that the whole stage packs with one worker and with two, repeated from the source as needed."""
    peer_python: Path | None = None
    """Python of an environment with plain Pillow and img2dataset, which cannot live beside Pillow-SIMD."""

    def __post_init__(self) -> None:
        check(self.num_sampled > 0, f"--num-sampled must be positive, found {self.num_sampled}")
        check(self.num_rounds > 0, f"--num-rounds must be positive, found {self.num_rounds}")
        check(
            self.num_packed >= 3 * self.num_sampled + 3,
            f"--num-packed must be more than three times --num-sampled {self.num_sampled}, found {self.num_packed}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentBenchConfig:
    """What is timed, and where the numbers go."""

    data: Path | None = None
    """Shard set of JPEGs to read; None packs pictures of noise first, as JPEG and raw, into a temporary folder."""
    raw_data: Path | None = None
    """Raw shard set of the same pictures as --data: the same command with --encoding raw packs it."""
    out: Path = Path("results/augment")
    """Directory for the JSON file and its tables."""
    batch_size: int = 128
    """Images per step."""
    num_threads: int = count_cores_per_rank()
    """Threads that decode and augment; processes of torch's DataLoader."""
    num_rounds: int = 3
    """Times that each loader has its turn; the median counts."""
    seconds: float = 1.5
    """Length of a turn, once the loader runs evenly."""
    device: Device = "auto"
    """Where the batches are wanted; auto takes the GPU when there is one."""

    def __post_init__(self) -> None:
        check(self.batch_size > 0, f"--batch-size must be positive, found {self.batch_size}")
        check(self.num_threads > 0, f"--num-threads must be positive, found {self.num_threads}")
        check(self.num_rounds > 0, f"--num-rounds must be positive, found {self.num_rounds}")
        check(self.seconds > 0, f"--seconds must be positive, found {self.seconds}")
        check(
            self.raw_data is None or self.data is not None,
            "--raw-data needs --data, the JPEGs of the same pictures: pass both, or neither to time noise",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainBenchConfig(LoadingConfig):
    """What is timed, and where the numbers go."""

    data: Path | None = None
    """Shard set to read; None packs pictures of noise first, into a temporary folder."""
    out: Path = Path("results")
    """Directory for the JSON file."""
    experiment: str = "source-2012"
    """Experiment whose network and augmentation are timed."""
    batch_size: int = 128
    """Images per step."""
    num_steps: int = 30
    """Steps that are timed, after three that are not."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""

    def __post_init__(self) -> None:
        super(TrainBenchConfig, self).__post_init__()
        check(self.batch_size > 0, f"--batch-size must be positive, found {self.batch_size}")
        check(self.num_steps > 0, f"--num-steps must be positive, found {self.num_steps}")
