"""submission.json: what was submitted, and the newest job of each name."""

from pathlib import Path

import pytest
from submitting import fail

from pipeline.artifacts import read_json
from pipeline.errors import InputError
from pipeline.submit.record import Submission, SubmittedJob, add_job, find_records, read_record


def build_job(job_id: str, name: str, **changes) -> SubmittedJob:
    values = {
        "stage": "train",
        "line": f"sbatch {name}",
        "after": (),
        "makes": "/run",
        "log": "/run/%j.log",
        "array": None,
    }
    return SubmittedJob(**({"id": job_id, "name": name} | values | changes))


def build_submission(time: str, command: str = "alexnet submit train paper") -> Submission:
    return Submission(time=time, command=command, directory="/home", environment={"PARTS": "3"}, jobs=())


def test_jobs_of_a_submission_stay_together_and_the_newest_of_a_name_counts(tmp_path: Path):
    first, second = (
        build_submission("2026-01-01T10:00:00+00:00"),
        build_submission("2026-01-02T10:00:00+00:00", "again"),
    )
    for submission, job_id, name in ((first, "8", "train"), (first, "9", "evaluate"), (second, "10", "evaluate")):
        add_job(tmp_path, submission, build_job(job_id, name))
    record = read_record(tmp_path)
    assert [[job.id for job in submission.jobs] for submission in record.submissions] == [["8", "9"], ["10"]]
    assert [(job.id, job.name) for job in record.jobs] == [("8", "train"), ("10", "evaluate")]
    assert [record.find_submission(job).command for job in record.jobs] == ["alexnet submit train paper", "again"]
    assert read_json(tmp_path / "submission.json", tuple[Submission, ...]) == record.submissions


def test_records_are_found_in_a_run_in_a_folder_of_runs_and_beside_a_shard_set(tmp_path: Path):
    submission = build_submission("2026-01-01T10:00:00+00:00")
    for folder, job_id in (("runs/slurm", "3"), ("runs/b/slurm", "2"), ("runs/a/slurm", "1"), ("set.slurm", "4")):
        add_job(tmp_path / folder, submission, build_job(job_id, "train"))

    def find(path: str) -> list[str]:
        return [job.id for record in find_records(tmp_path / path) for job in record.jobs]

    assert find("runs") == ["3", "1", "2"]
    assert find("runs/b") == ["2"]
    assert find("set") == ["4"]
    with pytest.raises(InputError, match="nothing was submitted for"):
        find("other")


def test_logs_are_named_as_slurm_names_them():
    assert (
        build_job("12", "train", log="/run/slurm/alexnet-train-%j.log").find_log() == "/run/slurm/alexnet-train-12.log"
    )
    array = build_job("12", "preprocess", log="/run/alexnet-preprocess-%A-%a.log", array="0-3")
    assert array.find_log("3") == "/run/alexnet-preprocess-12-3.log"
    assert array.find_log() == "/run/alexnet-preprocess-12-*.log"


def test_a_damaged_record_is_named(tmp_path: Path, capsys):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "submission.json").write_text('[{"time": "now"}]')
    assert f"{tmp_path}/slurm/submission.json does not fit this version" in fail(
        ["submit", "status", str(tmp_path)], capsys
    )
