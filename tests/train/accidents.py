"""What befalls a training process in the tests; set up in the process itself, before its command runs."""

import functools
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

Accident = Callable[[int], None]


def kill_before_step(step: int, *, victim: int = 0) -> Accident:
    """SIGKILL for one rank when it is about to take a step."""
    return functools.partial(_kill_before_step, step, victim)


def _kill_before_step(step: int, victim: int, rank: int) -> None:
    from pipeline.train import loop

    seed = loop.seed_step

    def seed_or_die(*words: Any, **values: Any) -> None:
        if values["step"] == step and rank == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        seed(*words, **values)

    loop.seed_step = seed_or_die


def kill_in_write(name: str) -> Accident:
    """SIGKILL when a file of that name is written, and is yet to take its place."""
    return functools.partial(_kill_in_write, name)


def _kill_in_write(name: str, rank: int) -> None:
    replace = Path.replace

    def replace_or_die(path: Path, target: Path) -> Path:
        if target.name == name:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    Path.replace = replace_or_die  # type: ignore[method-assign]


def limit_files(num_bytes: int) -> Accident:
    """No file can grow beyond that, as if the disk were full."""
    return functools.partial(_limit_files, num_bytes)


def _limit_files(num_bytes: int, rank: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def break_images(step: int, *, victim: int) -> Accident:
    """One rank's pictures of a step come as no numbers."""
    return functools.partial(_break_images, step, victim)


def _break_images(step: int, victim: int, rank: int) -> None:
    from pipeline.augment.loader import Batch, TrainLoader

    join = TrainLoader._join

    def join_broken(loader: TrainLoader, at: int, images: torch.Tensor) -> Batch:
        return join(loader, at, images * np.nan if (at, rank) == (step, victim) else images)

    TrainLoader._join = join_broken  # type: ignore[method-assign]


def break_gradients(rank: int) -> None:
    """No gradient of the first layer is ever finite, and float16's scale of the loss is low already."""
    from pipeline.train.step import Stepper

    update = Stepper._update

    def update_broken(stepper: Stepper) -> None:
        if stepper.scaler.get_scale() > 1:
            stepper.scaler.update(2.0**-8)
        gradient = next(stepper.network.parameters()).grad
        assert gradient is not None
        gradient.fill_(np.inf)
        update(stepper)

    Stepper._update = update_broken  # type: ignore[method-assign]
