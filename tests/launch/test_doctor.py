"""`alexnet doctor` as a whole: the command, the processes that it looks in, and what it prints."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import PIL
import pytest
import torch
from commands import run_command

from pipeline.artifacts import ShardSet
from pipeline.errors import InputError
from pipeline.launch.doctor.finding import Finding, Line, format_table, ill, merge, well
from pipeline.launch.doctor.processes import Look, run_looks
from pipeline.launch.doctor.stage import report
from pipeline.options import DoctorConfig

CONTROLLED = ("Python", "packages", "torch", "torchvision", "DALI", "Pillow", "mlflow", "shards", "source")
"""What is well wherever the tests run; disks, memory, GPUs and a Slurm are whatever the machine has."""


def test_the_doctor_finds_what_is_installed_and_pictures_well_and_prints_nothing_but_json(
    shard_set: ShardSet, pictures: Path, tmp_path: Path
):
    new = tmp_path / "runs" / "new"
    words = ("--data", str(shard_set.path), "--source", str(pictures), "--out", str(new), "--json")
    result = run_command("doctor", *words)
    assert result.stderr == ""
    report = json.loads(result.stdout)
    found = {finding["subject"]: finding for finding in report["findings"]}
    num_ill = sum(finding["status"] == "ill" for finding in found.values())
    assert (report["ok"], result.returncode) == (num_ill == 0, min(num_ill, 1))
    assert {subject: found[subject]["status"] for subject in CONTROLLED} == dict.fromkeys(CONTROLLED, "well")
    assert found["Python"]["found"].startswith(".".join(map(str, sys.version_info[:2])))
    assert found["torch"]["found"].startswith(torch.__version__)
    assert f"Pillow-SIMD {PIL.__version__}" in found["Pillow"]["found"]
    assert shard_set.info.digest[:12] in found["shards"]["found"]
    assert found["shard speed"]["measured"]["images_per_second"] > 0
    assert "folders" in found["source"]["found"]
    assert found["MLflow server"]["status"] == "skipped"
    assert str(tmp_path) in found["disk"]["found"]
    assert list(tmp_path.iterdir()) == []


def test_all_reduce_looks_at_nothing_else():
    with pytest.raises(InputError, match="--all-reduce looks at nothing else: leave out --data"):
        DoctorConfig(all_reduce=True, data=Path("shards"))


def crash(config: DoctorConfig) -> Iterator[Finding]:
    print("noise")
    yield well("first", "before the crash")
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(config: DoctorConfig) -> Iterator[Finding]:
    time.sleep(60)
    yield well("hang", "never")


def stumble(config: DoctorConfig) -> Iterator[Finding]:
    yield well("stumble", str(config.out))
    raise KeyError("missing")


def test_a_look_that_crashes_hangs_or_raises_is_a_finding_and_spoils_no_other(capfd):
    together = [Look("crash", crash, "mend it"), Look("hang", hang, "kick it", seconds=0.5)]
    findings, have_ended = run_looks(together, [Look("stumble", stumble, "lift it")], DoctorConfig(out=Path("there")))
    assert findings == [
        well("first", "before the crash"),
        ill("crash", "died of SIGSEGV", "mend it"),
        ill("hang", "no answer within 0.5 s", "kick it"),
        well("stumble", "there"),
        ill("stumble", "KeyError: 'missing'", "lift it"),
    ]
    assert have_ended
    assert capfd.readouterr() == ("", "")


def test_a_look_has_left_its_gpu_before_the_next_of_those_that_run_alone_begins(tmp_path: Path):
    findings, _ = run_looks(
        (), [Look("first", linger, ""), Look("second", find_lingering, "")], DoctorConfig(out=tmp_path)
    )
    assert findings == [well("first", "done"), well("second", "alone")]


def linger(config: DoctorConfig) -> Iterator[Finding]:
    (config.out / "process").write_text(str(os.getpid()))
    threading.Thread(target=time.sleep, args=(60,)).start()
    yield well("first", "done")


def find_lingering(config: DoctorConfig) -> Iterator[Finding]:
    there = Path("/proc", (config.out / "process").read_text()).exists()
    yield well("second", "in company" if there else "alone")


HELD_BACK = """
import threading, time
from pipeline.launch.doctor import stage
from pipeline.launch.doctor.finding import well
from pipeline.options import DoctorConfig
threading.Thread(target=time.sleep, args=(600,)).start()
stage.run_looks = lambda *_: ([well("disk", "slow")], False)
stage.diagnose(DoctorConfig())
"""


def test_a_look_that_cannot_be_killed_does_not_keep_the_doctor_from_ending():
    result = subprocess.run([sys.executable, "-c", HELD_BACK], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1, result.stderr
    assert "✓ disk             slow\n" in result.stdout


# --- what is said of several nodes


def test_nodes_that_agree_share_a_line_and_others_are_named():
    lines = merge(
        {
            "a": [well("torch", "2.14"), well("memory", "8 free", free_bytes=8), ill("shards", "gone", "mount it")],
            "b": [well("torch", "2.14"), well("memory", "5 free", free_bytes=5), well("shards", "whole")],
        }
    )
    assert lines == [
        Line(nodes=("a", "b"), finding=well("torch", "2.14")),
        Line(nodes=("a", "b"), finding=well("memory", "5 free", free_bytes=5), least=True),
        Line(nodes=("a",), finding=ill("shards", "gone", "mount it")),
        Line(nodes=("b",), finding=well("shards", "whole")),
    ]
    assert format_table(lines) == [
        "✓ torch            2.14",
        "✓ memory           5 free (the least of all nodes)",
        "✗ shards           a: gone",
        "                   → mount it",
        "✓ shards           b: whole",
    ]


@pytest.mark.parametrize(("num_nodes", "num_lines"), [("1", 18), ("2", 1)])
def test_a_node_that_speaks_for_itself_alone_puts_its_object_on_one_line(num_nodes, num_lines, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", num_nodes)
    assert not report([Line(nodes=("b",), finding=ill("disk", "full", "make room"))], DoctorConfig(json=True))
    said = capsys.readouterr().out
    assert said.count("\n") == num_lines
    finding = {
        "nodes": ["b"],
        "subject": "disk",
        "status": "ill",
        "found": "full",
        "advice": "make room",
        "measured": {},
    }
    assert json.loads(said) == {"ok": False, "nodes": ["b"], "findings": [finding]}


def test_one_object_tells_of_all_nodes(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    lines = merge(
        {"a": [well("torch", "2.14"), well("disk", "empty")], "b": [well("torch", "2.14"), ill("disk", "full", "")]}
    )
    assert not report(lines, DoctorConfig(json=True))
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["nodes"]) == (False, ["a", "b"])
    assert [(each["nodes"], each["status"]) for each in told["findings"]] == [
        (["a", "b"], "well"),
        (["a"], "well"),
        (["b"], "ill"),
    ]
