"""A rank that keeps the others waiting ends the run, and is named."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from accidents import sleep_before_step
from ranks import start_ranks
from small_runs import list_words

from pipeline.errors import HUNG_CODE, PEER_LOST_CODE
from pipeline.train import watchdog
from pipeline.train.watchdog import find_place

pytestmark = pytest.mark.distributed

FLAGS = ("--schedule.epochs=500", "--log-every=1", "--timeout=3")
LIMIT_SECONDS = 180


def wait_until(condition, what: str) -> None:
    limit = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < limit, f"not within {LIMIT_SECONDS} s: {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("victim", [1, 2])
def test_a_rank_that_stands_still_is_named_with_what_it_was_doing(shard_set, tmp_path, victim):
    told = {"ALEXNET_ENDINGS": str(tmp_path)}
    words = list_words(shard_set, tmp_path / "run", *FLAGS, "--global-batch-size=6")
    accident = sleep_before_step(4, victim=victim)
    with start_ranks(*words, processes=3, output=tmp_path / "said", prepare=accident, environment=told) as started:
        wait_until(lambda: all(process.exitcode is not None for process in started), "all ranks end")
        codes = {process.exitcode for process in started}
    assert HUNG_CODE in codes <= {HUNG_CODE, PEER_LOST_CODE}
    endings = [path.read_text() for path in sorted(tmp_path.glob("rank-*"))]
    hung = [ending for ending in endings if ending.startswith("124 ")]
    expected = f"for rank {victim} on {socket.gethostname()}, which reads the pictures of step 4 (run_steps, loop.py:"
    assert [expected in ending for ending in hung] == [True] * len(hung) != [], endings


def test_a_process_that_does_not_answer_is_named(shard_set, tmp_path):
    words = list_words(shard_set, tmp_path / "run", *FLAGS)
    journal = tmp_path / "run" / "journal.jsonl"
    with start_ranks(*words, processes=2, output=tmp_path / "said") as started:
        wait_until(lambda: journal.is_file() and journal.stat().st_size > 0, "training reports")
        pid = started[1].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: started[0].exitcode is not None, "the other rank ends")
        assert started[0].exitcode == HUNG_CODE
        assert started[1].exitcode is None
    said = (tmp_path / "said.0.stderr").read_text()
    assert f"nothing moved for 3 s: the ranks wait for rank 1 on {socket.gethostname()}, which " in said
    assert said.endswith("does not answer; ended, go on with --resume\n")


def test_a_place_in_an_installed_package_or_in_none_is_found(tmp_path, monkeypatch):
    main = threading.current_thread()
    assert (
        find_place(main).startswith("test_a_place_in_an_installed_package_or_in_none_is_found, test_watchdog.py:")
        is False
    )
    monkeypatch.setattr(watchdog, "PACKAGE", Path(__file__).parent)
    assert find_place(main).startswith("test_a_place_in_an_installed_package_or_in_none_is_found, test_watchdog.py:")
