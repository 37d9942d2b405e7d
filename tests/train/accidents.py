"""What befalls a training process in the tests; set up in the process itself, before its command runs."""

import functools
import os
import resource
import signal
import time
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


def send_before_step(
    step: int, number: signal.Signals, *, victims: tuple[int, ...] = (0,), times: int = 1, in_destructor: bool = False
) -> Accident:
    """A signal for some ranks when they are about to take a step, or destroy an object before it."""
    return functools.partial(_send_before_step, step, number, victims, times, in_destructor)


def _send_before_step(
    step: int, number: signal.Signals, victims: tuple[int, ...], times: int, in_destructor: bool, rank: int
) -> None:
    from pipeline.train import loop

    seed = loop.seed_step

    class Sender:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    def seed_after_signal(*words: Any, **values: Any) -> None:
        if values["step"] == step and rank in victims:
            for _ in range(times):
                if in_destructor:
                    Sender()
                else:
                    os.kill(os.getpid(), number)
        seed(*words, **values)

    loop.seed_step = seed_after_signal


def send_in_evaluation(number: signal.Signals, *, victim: int) -> Accident:
    """A signal for one rank when it has counted the errors of a batch."""
    return functools.partial(_send_in_evaluation, number, victim)


def _send_in_evaluation(number: signal.Signals, victim: int, rank: int) -> None:
    from pipeline.evaluate.topk import ErrorCounts

    add = ErrorCounts.add_batch

    def add_with_signal(counts: ErrorCounts, *words: Any) -> None:
        add(counts, *words)
        if rank == victim:
            os.kill(os.getpid(), number)

    ErrorCounts.add_batch = add_with_signal  # type: ignore[method-assign]


def sleep_before_step(step: int, *, victim: int) -> Accident:
    """One rank never takes a step, though its process lives."""
    return functools.partial(_sleep_before_step, step, victim)


def _sleep_before_step(step: int, victim: int, rank: int) -> None:
    from pipeline.train import loop

    seed = loop.seed_step

    def seed_or_sleep(*words: Any, **values: Any) -> None:
        if values["step"] == step and rank == victim:
            time.sleep(3600)
        seed(*words, **values)

    loop.seed_step = seed_or_sleep
