"""What a training run reads, writes and may use.

Slots make a second class of each dataclass, which a bare `super()` would miss: hence `super(Class, self)`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import check
from pipeline.options.loading import Device, LoadingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig(LoadingConfig):
    """Everything that must not change numbers, but by rounding and the units that dropout picks, or damaged data."""

    data: Path
    """Shard set: the directory that `alexnet preprocess` wrote."""
    out: Path
    """Run directory, made by this run; with --resume, the one to go on with."""
    weights: Path | None = None
    """Weights to begin with, for experiments that are pre-trained: a run directory, a checkpoint, or a file of
    torchvision, Caffe or safetensors; a run that goes on from a checkpoint needs none."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    begin_or_resume: bool = False
    """Go on if a run began in --out, begin otherwise: for jobs that are started again by a scheduler."""
    device: Device = "auto"
    """Where the network runs; auto takes the GPU when there is one."""
    log_every: int = 20
    """Steps between two entries of the training loss in the journal; between them no request to stop is heard."""
    timeout: float = 600.0
    """Seconds in which nothing moves, after which ranks that wait for a hung one are ended."""
    keep: int = 2
    """Newest checkpoints that stay on disk, beside the one with the lowest validation error."""
    checkpoint_every: int | None = None
    """Steps between checkpoints within an epoch; None writes one at each epoch's end only."""
    max_steps: int | None = None
    """Stop after this many optimiser steps in all, as if the time were up; None runs to the end."""
    micro_batch: int | None = None
    """Pictures per rank that go through the network at once, gradients added up; None takes all of a step."""
    channels_last: bool = False
    """Keep activations and kernels with their channels last, which GPUs multiply faster in half precision."""
    compile: bool = False
    """Compile the network with torch.compile."""
    towers: Literal[1, 2] = 1
    """2: pairs of ranks share a network, a tower each, as in 2012 (§3.2)."""
    fc_parallel: int = 1
    """Ranks that split the fully connected layers among them (Krizhevsky 2014)."""
    compress_gradients: bool = False
    """Average gradients over the ranks in bfloat16."""
    stall_after: int | None = None
    """Steps after which a loss at chance is called a stall; None takes a quarter of all steps, at most 5,000."""

    def __post_init__(self) -> None:
        super(RuntimeConfig, self).__post_init__()
        for name in (
            "log_every",
            "keep",
            "checkpoint_every",
            "max_steps",
            "micro_batch",
            "fc_parallel",
            "stall_after",
            "timeout",
        ):
            value = getattr(self, name)
            check(value is None or value > 0, f"--{name.replace('_', '-')} must be positive, found {value}")
