"""Where jobs stand, in words; and what their files show where Slurm no longer knows them."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from submitting import go_nowhere, write_run
from test_record import build_job, build_submission

from pipeline.artifacts import ShardSet
from pipeline.cli import main
from pipeline.submit.reasons import explain
from pipeline.submit.record import add_job
from pipeline.submit.states import TaskState, read_exit_code, read_time
from pipeline.submit.status import find_sentence, format_duration, format_state
from pipeline.tracking import Journal


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site file that says nothing; there is no Slurm."""
    return go_nowhere(tmp_path, monkeypatch)


def build_task(state: str, reason: str | None = None, **changes) -> TaskState:
    nothing = dict.fromkeys(("task", "restarts", "submitted", "began", "ended", "exit_code", "nodes"))
    return TaskState(**(nothing | {"state": state, "reason": reason, "source": "squeue"} | changes))


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("PENDING", "Priority", "other jobs come first (Priority)"),
        ("PENDING", "Resources", "waits for nodes to become free (Resources)"),
        ("PENDING", "Dependency", "waits for the jobs before it (Dependency)"),
        ("PENDING", "QOSMaxGRESPerUser", "a limit of the QOS is reached (QOSMaxGRESPerUser)"),
        (
            *("PENDING", "ReqNodeNotAvail, Reserved"),
            "nodes that it asks for are down, drained, or kept for maintenance: sinfo -R (ReqNodeNotAvail, Reserved)",
        ),
        (
            *("PENDING", "PartitionNodeLimit"),
            "will never start: it asks for more nodes than the partition gives to a job (PartitionNodeLimit)",
        ),
        ("PENDING", "SomethingNew", "SomethingNew"),
        ("RUNNING", "Priority", None),
        ("CANCELLED", "DependencyNeverSatisfied", "a job before it did not end well"),
        ("CANCELLED", "Priority", None),
        ("FAILED", "NonZeroExitCode", None),
    ],
)
def test_reasons_are_told_in_words_and_unknown_ones_as_they_are(state: str, reason: str, words: str | None):
    assert explain(build_task(state, reason)) == words


def test_a_requeued_job_says_when_it_starts_again():
    task = build_task("PENDING", "BeginTime", began=datetime(2026, 1, 2, 3, 4).astimezone(), restarts=1)
    assert explain(task) == "was requeued, and Slurm waits two minutes (BeginTime), begins at 03:04 on 02 January"


def test_tasks_of_an_array_are_counted():
    tasks = [build_task(state) for state in ("RUNNING", "COMPLETED", "COMPLETED", "NEW_STATE")]
    assert format_state(tasks) == "2 done, 1 runs, 1 new_state"
    assert format_state(tasks[:1]) == "runs"


@pytest.mark.parametrize(("text", "code"), [("0", 0), ("512", 2), ("15", -15), ("2:0", 2), ("0:9", -9), ("75:0", 75)])
def test_exit_codes_come_in_two_ways(text: str, code: int):
    assert read_exit_code(text) == code


def test_times_may_be_unknown():
    assert read_time("N/A") is None
    assert read_time("2026-01-02T03:04:05").replace(tzinfo=None) == datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (180000, "2 d 2 h")]
)
def test_durations_have_two_units(seconds: float, words: str):
    assert format_duration(seconds) == words


def test_the_sentence_of_a_job_is_that_of_its_last_life_the_mistake_before_what_came_of_it(tmp_path: Path):
    job = build_job("7", "train", log=str(tmp_path / "alexnet-train-%j.log"))
    assert find_sentence(tmp_path, job, None) is None
    (tmp_path / "alexnet-train-7.log").write_text("step 3\nalexnet train: the disk is full\nsrun: error\n")
    assert find_sentence(tmp_path, job, None) == "alexnet train: the disk is full"
    for life, rank, ending in (
        ("7-9-0", 0, "1 old"),
        ("7-10-0", 0, "69 lost its peers"),
        ("7-10-0", 1, "2 no such shard set"),
        ("70-11-0", 0, "1 of another job"),
    ):
        (tmp_path / "endings" / life).mkdir(parents=True, exist_ok=True)
        (tmp_path / "endings" / life / f"rank-{rank}").write_text(f"{ending}\n")
    assert find_sentence(tmp_path, job, None) == "no such shard set"


def test_without_slurm_the_files_tell(few_set: ShardSet, tmp_path: Path, capsys):
    run = write_run(tmp_path / "run", few_set, step=90, global_batch_size=9)
    journal = Journal(run / "journal.jsonl")
    journal.append(step=90, epoch=90.0, metrics={"val/top1_error": 0.25})
    submission = build_submission("2026-01-01T10:00:00+00:00", "alexnet submit reproduce paper")
    jobs = (
        build_job("1", "preprocess", stage="preprocess", makes=str(few_set.path), array="0-1"),
        build_job("2", "train", makes=str(run)),
        build_job("3", "evaluate", stage="evaluate", makes=str(run)),
        build_job("4", "report", stage="report", makes=str(run / "report")),
    )
    for job in jobs:
        add_job(run / "slurm", submission, job)
    main(["submit", "status", str(run), "--json"])
    status = json.loads(capsys.readouterr().out)
    assert "there is no Slurm here" in status["note"]
    assert [(job["name"], job["state"], job["source"], job["failed"]) for job in status["jobs"]] == [
        ("preprocess", "done", "files", False),
        ("train", "done", "files", False),
        ("evaluate", "unknown", "files", True),
        ("report", "unknown", "files", True),
    ]
    assert status["jobs"][1]["progress"] == "epoch 90.00 of 90, validation top-1 error 25.00%"
    main(["submit", "status", str(run)])
    said = capsys.readouterr().out
    assert "what follows is what the files show" in said
    assert said.count("next: ") == 1
    assert "`alexnet submit reproduce paper`, given in /home, goes on from here" in said


def test_of_several_runs_each_row_names_its_own(few_set: ShardSet, tmp_path: Path, capsys):
    for number, name in enumerate(("no-lrn", "one-gpu")):
        submission = build_submission("2026-01-01T10:00:00+00:00", f"alexnet submit train {name}")
        run = tmp_path / name
        add_job(run / "slurm", submission, build_job(str(number), "train", makes=str(run)))
    main(["submit", "status", str(tmp_path)])
    said = capsys.readouterr().out
    assert "train of no-lrn" in said
    assert "train of one-gpu" in said
