"""Exit codes and sentences that ranks leave in files."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from pipeline.artifacts import leave_ending, list_endings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where endings go."""
    monkeypatch.setenv("ALEXNET_ENDINGS", str(tmp_path))
    return tmp_path


def test_a_rank_leaves_its_code_and_sentence(folder, monkeypatch):
    assert list_endings() == set()
    for rank, code in ((3, 75), (11, 2)):
        monkeypatch.setenv("RANK", str(rank))
        leave_ending(code, "alexnet train: a sentence")
    assert list_endings() == {75, 2}
    assert (folder / "rank-3.75").read_text() == "75 alexnet train: a sentence\n"


def test_outside_of_a_world_nothing_is_left(folder, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    leave_ending(2, "alexnet train: a sentence")
    assert list(folder.iterdir()) == []


def test_a_disk_that_takes_no_byte_still_takes_the_code(folder):
    program = "from pipeline.artifacts import leave_ending; leave_ending(1, 'alexnet train: no space left')"

    def forbid_bytes() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    environment = os.environ | {"RANK": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", program], env=environment, preexec_fn=forbid_bytes, check=True)
    assert [path.name for path in folder.iterdir()] == ["rank-0.1"]
    assert list_endings() == {1}
