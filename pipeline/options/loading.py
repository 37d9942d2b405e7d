"""How batches are loaded, in every command that loads any."""

import os
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import check

Device = Literal["auto", "cpu", "cuda"]
"""Where the network runs; `auto` takes the GPU when there is one."""
Split = Literal["train", "val", "test"]
Decoder = Literal["auto", "cpu", "mixed"]

MAX_DEFAULT_THREADS = 16
"""So that one process does not take all of a large node."""


def count_cores_per_rank() -> int:
    """Cores that this process may use, shared with the other ranks that torchrun started on this node."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(1, cores), MAX_DEFAULT_THREADS)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadingConfig:
    """How batches are loaded; all but damaged pictures, and the rounding of decoders, stay as they are."""

    num_threads: int = count_cores_per_rank()
    """Threads that decode and augment, per rank."""
    decoder: Decoder = "auto"
    """Where JPEGs are decoded: cpu, mixed (on the GPU, helped by the CPU), or auto, which is mixed on a GPU."""
    hw_decoder_load: float = 0.65
    """Share of the JPEGs that go to the GPU's own JPEG engine, where it has one; DALI's default."""
    on_damaged: Literal["stop", "skip"] = "stop"
    """What to do about a picture that cannot be decoded: stop, or leave it out, count it and write it down."""

    def __post_init__(self) -> None:
        check(self.num_threads > 0, f"--num-threads must be positive, found {self.num_threads}")
        check(0 <= self.hw_decoder_load <= 1, f"--hw-decoder-load must lie in [0, 1], found {self.hw_decoder_load}")
