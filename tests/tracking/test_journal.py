"""The journal keeps every line, whatever ends the process that writes it."""

import math

import pytest

from pipeline.tracking import Journal


def test_journal_gives_back_what_was_appended(tmp_path):
    journal = Journal(tmp_path / "new" / "journal.jsonl")
    assert journal.read() == []
    journal.append(step=3, epoch=0.5, metrics={"train/loss": 1.25})
    journal.append(step=6, epoch=1.0, metrics={"train/loss": 0.75, "val/top1_error": 0.5})
    assert [(entry.step, entry.epoch, entry.metrics) for entry in journal.read()] == [
        (3, 0.5, {"train/loss": 1.25}),
        (6, 1.0, {"train/loss": 0.75, "val/top1_error": 0.5}),
    ]


def test_journal_passes_over_a_line_that_a_crash_cut_short_and_keeps_the_next(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(step=1, epoch=0.1, metrics={"train/loss": 2.0})
    with journal.path.open("ab") as file:
        file.write(b'{"step": 2, "epo')
    assert [entry.step for entry in journal.read()] == [1]
    journal.append(step=3, epoch=0.3, metrics={"train/loss": 1.0})
    assert [entry.step for entry in journal.read()] == [1, 3]


@pytest.mark.parametrize(
    "line",
    [
        b"1\n",
        b"[]\n",
        b"{}\n",
        b'{"step": 1}\n',
        b'{"step": "x", "epoch": 1, "time": 1, "metrics": {}}\n',
        b'{"step": 1.5, "epoch": 1, "time": 1, "metrics": {}}\n',
        b'{"step": -1, "epoch": 1, "time": 1, "metrics": {}}\n',
        b'{"step": 1, "epoch": NaN, "time": 1, "metrics": {}}\n',
        b'{"step": 1, "epoch": 1, "time": Infinity, "metrics": {}}\n',
        b'{"step": 1, "epoch": 1, "time": 1, "metrics": 5}\n',
        b'{"step": 1, "epoch": 1, "time": 1, "metrics": {"train/loss": "1"}}\n',
        b'{"step": 1, "epoch": 1, "time": 1, "metrics": {"train/loss": null}}\n',
        b"[" * 100_000,
        b"\xff\xfe\n",
        bytes(4096),
    ],
)
def test_journal_passes_over_a_line_that_is_no_entry_and_knows_its_number(tmp_path, line):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(step=1, epoch=0.1, metrics={"train/loss": 2.0})
    with journal.path.open("ab") as file:
        file.write(line)
    journal.append(step=3, epoch=0.3, metrics={"train/loss": 1.0})
    assert [entry.step for entry in journal.read()] == [1, 3]
    assert journal.find_damage() == [2]
    resumed = Journal(journal.path)
    resumed.leave_out_known(since=1)
    resumed.append(step=3, epoch=0.3, metrics={"train/loss": 5.0})
    assert journal.read_metric("train/loss")[-1][1] == 1.0


def test_numbers_come_back_to_the_bit(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    values = {str(power): math.pi * 10.0**power for power in range(-300, 300, 7)} | {"inf": math.inf}
    journal.append(step=1, epoch=1 / 3, metrics=values | {"nan": math.nan})
    (entry,) = journal.read()
    assert math.isnan(entry.metrics.pop("nan"))
    assert (entry.epoch, entry.metrics) == (1 / 3, values)


def test_of_a_step_that_occurs_twice_the_later_line_counts(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for step, value in ((1, 5.0), (2, 4.0), (1, 3.0)):
        journal.append(step=step, epoch=step / 2, metrics={"train/loss": value})
    assert [(entry.step, value) for entry, value in journal.read_metric("train/loss")] == [(1, 3.0), (2, 4.0)]


def test_after_a_resume_points_that_are_there_are_not_written_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    before = Journal(path)
    for step in (2, 4, 6):
        before.append(step=step, epoch=0.0, metrics={"train/loss": float(step)})
    resumed = Journal(path)
    resumed.leave_out_known(since=3)
    resumed.append(step=4, epoch=0.0, metrics={"train/loss": 40.0})
    resumed.append(step=6, epoch=0.0, metrics={"train/loss": 60.0, "val/top1_error": 0.5})
    resumed.append(step=8, epoch=0.0, metrics={"train/loss": 8.0})
    assert [(entry.step, entry.metrics) for entry in resumed.read()] == [
        (2, {"train/loss": 2.0}),
        (4, {"train/loss": 4.0}),
        (6, {"train/loss": 6.0}),
        (6, {"val/top1_error": 0.5}),
        (8, {"train/loss": 8.0}),
    ]


def test_reading_goes_on_from_where_it_ended(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    for step in (1, 2):
        journal.append(step=step, epoch=0.0, metrics={"train/loss": 1.0})
    *_, (last, position) = journal.read_from(0)
    assert last.step == 2
    with journal.path.open("ab") as file:
        file.write(b'{"step": 3')  # another process is just writing it
    assert list(journal.read_from(position)) == []
    with journal.path.open("ab") as file:
        file.write(b', "epoch": 0.0, "time": 0.0, "metrics": {}}\n')
    assert [entry.step for entry, _ in journal.read_from(position)] == [3]
