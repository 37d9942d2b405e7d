"""What the commands that bring weights in and out read and write."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import check


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportConfig:
    """What `weights import` makes a run of."""

    file: Path
    """Weights: .caffemodel, .safetensors, .pth, .pt, or a run directory."""
    data: Path
    """Shard set to evaluate them on: the directory that `alexnet preprocess` wrote."""
    out: Path
    """Run directory to make, for `alexnet evaluate` and `alexnet weights export`."""
    mean: Path | None = None
    """Mean image that the weights were trained with, Caffe's .binaryproto; None takes the shard set's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """What `weights export` writes."""

    run: Path
    """Run directory that `alexnet train` or `alexnet weights import` wrote."""
    out: Path
    """File to write, .onnx or .safetensors, that must not exist yet."""
    checkpoint: Literal["last", "best"] | Path = "last"
    """Which weights: last, best (by validation error), or the path of one of the run's checkpoints."""
    data: Path | None = None
    """Shard set, if it has moved since training; an .onnx takes mean and classes from it, and is checked on it."""

    def __post_init__(self) -> None:
        fits = self.out.suffix.lower() in {".onnx", ".safetensors"}
        check(fits, f"{self.out} must end in .onnx or .safetensors")
