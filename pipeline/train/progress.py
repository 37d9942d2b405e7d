"""How far training is, for people: a bar on a terminal, now and then a line in a job's log."""

import time
from contextlib import AbstractContextManager

from tqdm import tqdm

from pipeline.durations import format_seconds
from pipeline.model.communication import CommunicationCounter
from pipeline.train.loop import TrainMetrics
from pipeline.train.schedule import Rates

LINE_SECONDS = 60.0


class Progress:
    """A bar over all steps; where standard error is no terminal, a line a minute on standard output instead."""

    def __init__(self, *, first_step: int, last_step: int, steps_per_epoch: int, speaks: bool) -> None:
        """Progress from a step to another.

        Args:
            first_step: steps finished before.
            last_step: steps finished after.
            steps_per_epoch: global batches of an epoch.
            speaks: whether this process says anything.
        """
        self.first_step, self.last_step, self.steps_per_epoch = first_step, last_step, steps_per_epoch
        self.has_shown = False
        self.speaks, self.began, self.said = speaks, time.monotonic(), time.monotonic()
        disable = None if speaks else True
        self.bar = tqdm(initial=first_step, total=last_step, unit=" steps", disable=disable, leave=False)

    def pause(self) -> AbstractContextManager[None]:
        """Lines may be printed within it, without the bar between them."""
        return tqdm.external_write_mode()

    def close(self) -> None:
        """Take the bar off the terminal."""
        self.bar.close()

    def show(self, metrics: TrainMetrics, rates: Rates, communication: CommunicationCounter | None) -> None:
        """Show how far training is, and the first time what a step sends."""
        if not self.speaks:
            return
        if communication is not None and not self.has_shown:
            self.bar.write(f"train: each step, a rank sends {communication.describe()}")
        self.has_shown = True
        if not self.bar.disable:
            self.bar.update(metrics.step - self.bar.n)
            self.bar.set_description(f"epoch {metrics.step / self.steps_per_epoch:.2f}", refresh=False)
            self.bar.set_postfix_str(f"loss {metrics.loss:.3f}, {metrics.images_per_second:,.0f} images/s")
        elif time.monotonic() - self.said >= LINE_SECONDS:
            self.said = time.monotonic()
            print(f"train: {self.format(metrics, rates)}", flush=True)

    def format(self, metrics: TrainMetrics, rates: Rates) -> str:
        """Epoch, step, loss, error, rate, speed, wait and the time that is left, evaluations included."""
        done = metrics.step - self.first_step
        left = (time.monotonic() - self.began) / done * (self.last_step - metrics.step)
        return (
            f"epoch {metrics.step / self.steps_per_epoch:.2f}, step {metrics.step:,} of {self.last_step:,}: "
            f"loss {metrics.loss:.3f}, top-1 error {metrics.top1_error:.1%}, rate {rates.weights:g}, "
            f"{metrics.images_per_second:,.0f} images/s, {metrics.data_wait_fraction:.0%} waiting for data, "
            f"{format_seconds(left)} left"
        )
