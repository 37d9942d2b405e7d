"""A pre-emption played on one machine: real processes, real signals."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import SMALL_FLAGS, run_command

from pipeline.artifacts import RunDirectory, ShardSet
from pipeline.launch.drill import ADVICE_IN_TIME, BLOWS, compare, format_findings, strike
from pipeline.options import DrillConfig

pytestmark = pytest.mark.distributed


def list_words(shard_set: ShardSet) -> tuple[str, ...]:
    """A training whose steps take a moment; the drill says how many."""
    return (
        "source-2012",
        f"--data={shard_set.path}",
        "--device=cpu",
        *SMALL_FLAGS,
        "--schedule.epochs=50",
        "--log-every=2",
    )


@pytest.mark.slow
def test_a_training_that_survives_is_said_to(shard_set, tmp_path):
    options = (f"--out={tmp_path / 'drill'}", "--steps=60", "--ranks=2")
    ended = run_command("drill", *options, "train", *list_words(shard_set))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for said in (
        r"✓ pre-emption +ended with exit code 75 after [\d.]+ s of 120 s\n",
        r"✓ second pre-emption +ended with exit code 75",
        r"drill: power cut after step \d+ \(SIGKILL\)",
        r"✓ weights +equal to the bit, with and without trouble",
        r"✓ journal +[1-9]\d* points without trouble, 0 of them missing with it, 0 added",
        r"drill: this training survives pre-emption on this machine",
    ):
        assert re.search(said, ended.stdout), ended.stdout
    assert "✗" not in ended.stdout


def test_one_that_does_not_stop_in_time_is_told_what_to_change(shard_set, tmp_path):
    run = RunDirectory(tmp_path / "struck")
    findings = strike(
        BLOWS[0], run, DrillConfig(out=tmp_path, ranks=1, grace_seconds=0.01, steps=10), list_words(shard_set)
    )
    said = "\n".join(format_findings(findings))
    assert said.startswith("✗ pre-emption          still at work after 0.01 s\n")
    assert f"  pre-emption: {ADVICE_IN_TIME}\n" in said
    assert said.endswith("drill: this training does not survive pre-emption on this machine")


def test_weights_and_journals_that_differ_are_seen(finished_run, tmp_path):
    calm, other = RunDirectory(finished_run), RunDirectory(tmp_path / "other")
    assert [finding.status for finding in compare(calm, calm)] == ["well", "well"]
    subprocess.run(["cp", "-r", str(finished_run), str(other.path)], check=True)
    lines = other.journal.read_text().splitlines(keepends=True)
    other.journal.write_text("".join(lines[1:]))
    first, *_ = sorted(other.checkpoints.iterdir())
    for path in sorted(other.checkpoints.iterdir())[1:]:
        path.unlink()
    weights, journal = compare(calm, other)
    assert (weights.status, journal.status) == ("ill", "ill"), first
    assert re.fullmatch(r"up to [\d.e-]+ apart, with and without trouble", weights.found)
    assert re.fullmatch(r"\d+ points without trouble, [1-9]\d* of them missing with it, 0 added", journal.found)


def test_the_words_that_the_drill_sets_itself_are_refused(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "drill", "train", "source-2012", "--out=x"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "alexnet drill: the drill sets --out, --max-steps and --begin-or-resume of the training itself: "
        "leave them out after `train`\n"
    )
