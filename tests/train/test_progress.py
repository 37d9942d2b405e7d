"""How far training is: a line a minute in a log, a bar on a terminal, nothing from ranks but the first."""

import contextlib
import dataclasses
import io
import os
import pty
import re
import sys
import termios

import pytest

from pipeline.durations import format_seconds
from pipeline.train.loop import TrainMetrics
from pipeline.train.progress import Progress
from pipeline.train.schedule import Rates

RATES = Rates(weights=0.0005, biases=0.002, conv1=0.0, head=0.0005)
REPORT = TrainMetrics(
    num_steps=20,
    step=1500,
    loss=2.71828,
    top1_error=0.6254,
    num_skipped=0,
    seconds=10.0,
    images_per_second=1234.5,
    data_wait_fraction=0.034,
)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told."""
    now = [100.0]
    monkeypatch.setattr("pipeline.train.progress.time.monotonic", lambda: now[0])
    return now


def build_progress(*, speaks: bool = True) -> Progress:
    return Progress(first_step=1000, last_step=4000, steps_per_epoch=1000, speaks=speaks)


def test_a_line_has_epoch_step_loss_error_rate_speed_wait_and_the_time_left(clock):
    progress = build_progress()
    clock[0] += 600.0  # for 500 steps, of which 2,500 are left
    assert progress.format(REPORT, RATES) == (
        "epoch 1.50, step 1,500 of 4,000: loss 2.718, top-1 error 62.5%, rate 0.0005, 1,234 images/s, "
        "3% waiting for data, 50 min 0 s left"
    )


def test_a_log_gets_a_line_a_minute(clock, capsys):
    progress = build_progress()
    said = []
    for step in range(1010, 1200, 10):  # ten seconds each
        clock[0] += 10
        progress.show(dataclasses.replace(REPORT, step=step), RATES, None)
        said += capsys.readouterr().out.splitlines()
    assert [re.sub(r":.*", "", line.removeprefix("train: ")) for line in said] == [
        "epoch 1.06, step 1,060 of 4,000",
        "epoch 1.12, step 1,120 of 4,000",
        "epoch 1.18, step 1,180 of 4,000",
    ]
    assert capsys.readouterr().err == ""


def test_other_ranks_say_nothing(clock, capsys):
    progress = build_progress(speaks=False)
    clock[0] += 600
    progress.show(REPORT, RATES, None)
    progress.close()
    assert capsys.readouterr() == ("", "")


@contextlib.contextmanager
def become_terminal(monkeypatch):
    """Standard error is a terminal of 120 columns in the block; yields what appeared on it, once it has ended."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    shown = io.StringIO()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        yield shown
        terminal.write("end")
        terminal.flush()
        while not shown.getvalue().endswith("end"):
            shown.write(os.read(ours, 65536).decode())
    os.close(ours)


def test_a_terminal_gets_a_bar_that_is_taken_off_at_the_end_and_no_lines(clock, capsys, monkeypatch):
    with become_terminal(monkeypatch) as shown:
        progress = build_progress()
        for step in (1250, 1500):
            clock[0] += 100
            progress.show(dataclasses.replace(REPORT, step=step), RATES, None)
        progress.close()
    assert "epoch 1.50:" in shown.getvalue()
    assert "1500/4000" in shown.getvalue()
    assert "loss 2.718, 1,234 images/s" in shown.getvalue()
    assert shown.getvalue().endswith(f"\r{' ' * 119}\rend")
    assert capsys.readouterr().out == ""


def test_the_bar_is_silent_on_other_ranks(clock, monkeypatch):
    with become_terminal(monkeypatch) as shown:
        progress = build_progress(speaks=False)
        progress.show(REPORT, RATES, None)
        progress.close()
    assert shown.getvalue() == "end"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (5 * 86400 + 7 * 3600 + 59 * 60, "5 d 7 h"),
    ],
)
def test_times_are_said_in_their_two_largest_units(seconds, said):
    assert format_seconds(seconds) == said
