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


@dataclass(frozen=True, kw_only=True, slots=True)
class LayersBenchConfig:
    """What is timed, and where the numbers go."""

    out: Path = Path("results/layers")
    """Directory for the JSON file and its tables."""
    experiment: str = "source-2012"
    """Experiment whose layers are timed, each on what the ones before it make of noise."""
    batch_size: int = 32
    """Images per step."""
    num_rounds: int = 5
    """Times that each variant has its turn, after one that does not count; the median counts."""
    compile: bool = False
    """Also time the response norms under torch.compile, which needs a C++ compiler, or Triton on a GPU."""
    device: Device = "auto"
    """Where the layers run; auto takes the GPU when there is one."""

    def __post_init__(self) -> None:
        check(self.batch_size > 0, f"--batch-size must be positive, found {self.batch_size}")
        check(self.num_rounds > 0, f"--num-rounds must be positive, found {self.num_rounds}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CommunicationBenchConfig:
    """What is counted, and where the numbers go."""

    out: Path = Path("results/communication")
    """Directory for the JSON file."""
    experiment: str = "source-2012"
    """Experiment whose network is shared."""
    batch_size: int = 128
    """Images per step, over all ranks."""
    world_sizes: tuple[int, ...] = (2, 4, 8)
    """Numbers of ranks, each a process on this machine's CPU with the whole network at first."""

    def __post_init__(self) -> None:
        check(min(self.world_sizes, default=0) > 1, f"--world-sizes must all be at least 2, found {self.world_sizes}")
        for world_size in self.world_sizes:
            check(
                self.batch_size > 0 and self.batch_size % world_size == 0,
                f"--batch-size {self.batch_size} does not divide over {world_size} ranks: choose a multiple",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncBenchConfig:
    """What is timed, and where the numbers go."""

    points: int = 100_000
    """Points of the run that is brought to MLflow; rounded up to whole steps of six."""
    out: Path = Path("results/tracking")
    """Directory for the JSON file."""

    def __post_init__(self) -> None:
        check(self.points > 0, f"--points must be positive, found {self.points}")
