"""The report: what takes a row of the paper, what never does, and what the page and its figures hold."""

import dataclasses
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pipeline import paper
from pipeline.artifacts import EvaluationRecord
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS
from pipeline.options import PackingConfig, ReportConfig
from pipeline.report.figures import draw_claims, draw_curves
from pipeline.report.measured import MeasuredRun, compute_interval, find_answer, judge, read_run
from pipeline.report.stage import report
from pipeline.report.table import format_claims

CLAIM = next(claim for claim in paper.CLAIMS if claim.key == "one-cnn-2012")


@pytest.fixture
def full_run(finished_run: Path) -> MeasuredRun:
    """What a complete run of `source-2012` on all of ImageNet would look like; made by hand, for no such run exists."""
    small = read_run(finished_run)
    experiment = EXPERIMENTS["source-2012"]
    evaluation = EvaluationRecord(
        split="val",
        views="ten",
        step=910_000,
        epoch=91,
        num_images=50_000,
        num_top1_errors=20_300,
        num_top5_errors=9_100,
        log_loss=1.74,
        data_digest=small.record.data_digest,
    )
    record = dataclasses.replace(
        small.record,
        config=experiment.config,
        status="as registered",
        starts=(dataclasses.replace(small.record.starts[0], dirty=False),),
        data_complete=True,
        data_packing=PackingConfig(),
        num_dropped_images=0,
        num_train_images=1_281_167,
        num_val_images=50_000,
    )
    return dataclasses.replace(small, record=record, evaluations=(evaluation,), train_losses=((45.0, 3.0), (91.0, 2.0)))


def test_a_run_on_other_data_answers_no_claim(finished_run: Path):
    run = read_run(finished_run)
    assert all(find_answer(claim, [run]) is None for claim in paper.CLAIMS)
    table = format_claims([run])
    assert table.count("| not run ") == 2 * len(paper.CLAIMS)


def test_a_full_run_takes_its_row_with_interval_and_verdict(full_run: MeasuredRun):
    run, evaluation = find_answer(CLAIM, [full_run])
    assert (run.path, evaluation.top1_error) == (full_run.path, 0.406)
    (row,) = [line for line in format_claims([full_run]).splitlines() if "1 CNN, validation" in line]
    assert "40.60 [40.17, 41.03] / 18.20 [17.86, 18.54]" in row
    assert "40.7/18.2" in row
    assert "40.66/18.21 (145 on 2012)" in row
    assert "| reproduced " in row
    assert find_answer(paper.CLAIMS[0], [full_run]) is None


@pytest.mark.parametrize(
    "spoil",
    [
        {"config": dataclasses.replace(EXPERIMENTS["source-2012"].config, seed=1)},
        {"num_train_images": 1_281_166},
        {"num_train_images": 1_281_165, "num_dropped_images": 1},
        {"num_train_images": 1_281_168, "num_dropped_images": 1},
        {"data_complete": False},
        {"data_packing": PackingConfig(resize="warp")},
        {"data_packing": PackingConfig(pixels=128)},
        {"experiment": "paper"},
    ],
)
def test_modified_partial_and_other_runs_never_take_a_row(full_run: MeasuredRun, spoil: dict[str, object]):
    spoilt = dataclasses.replace(full_run, record=dataclasses.replace(full_run.record, **spoil))
    assert find_answer(CLAIM, [spoilt]) is None
    assert find_answer(CLAIM, [spoilt, full_run]) is not None


def test_pictures_that_could_not_be_decoded_cost_no_row(full_run: MeasuredRun):
    record = dataclasses.replace(full_run.record, num_train_images=1_281_165, num_dropped_images=2)
    assert find_answer(CLAIM, [dataclasses.replace(full_run, record=record)]) is not None


def test_a_run_that_was_resumed_from_changed_code_never_takes_a_row(full_run: MeasuredRun):
    (start,) = full_run.record.starts
    starts = (start, dataclasses.replace(start, dirty=True))
    spoilt = dataclasses.replace(full_run, record=dataclasses.replace(full_run.record, starts=starts))
    assert find_answer(CLAIM, [spoilt]) is None


def test_a_run_that_left_out_a_damaged_picture_never_takes_a_row(full_run: MeasuredRun):
    assert find_answer(CLAIM, [dataclasses.replace(full_run, num_skipped=1)]) is None


@pytest.mark.parametrize(
    "spoil", [{"num_skipped": 1}, {"num_images": 10}, {"epoch": 90}, {"split": "test"}, {"views": "center"}]
)
def test_the_wrong_evaluation_never_takes_a_row(full_run: MeasuredRun, spoil: dict[str, object]):
    evaluation = dataclasses.replace(full_run.evaluations[0], **spoil)
    assert find_answer(CLAIM, [dataclasses.replace(full_run, evaluations=(evaluation,))]) is None


def test_verdict_turns_where_the_interval_leaves_the_paper_s_number(full_run: MeasuredRun):
    (evaluation,) = full_run.evaluations
    verdicts = {20_100: "better than the paper", 20_300: "reproduced", 20_560: "reproduced", 20_600: "not reproduced"}
    for num_errors, verdict in verdicts.items():
        assert judge(CLAIM, dataclasses.replace(evaluation, num_top1_errors=num_errors)) == verdict


def test_interval_is_wilson_s():
    share, num, z = 0.1, 200, 1.959964
    middle = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    reach = z / (1 + z**2 / num) * (share * (1 - share) / num + z**2 / (4 * num**2)) ** 0.5
    assert compute_interval(20, 200) == pytest.approx((middle - reach, middle + reach), abs=1e-6)


def test_report_holds_every_claim_and_the_run_with_its_modifications(finished_run: Path, tmp_path: Path):
    path = report(ReportConfig(runs=(finished_run,), out=tmp_path))
    text = path.read_text()
    for claim in paper.CLAIMS:
        assert f"| {claim.text} " in text
    run = read_run(finished_run)
    evaluation = run.find_evaluation("val", "ten")
    assert f"{evaluation.top1_error * 100:.2f} [" in text
    assert "`model.width` = 0.125 (1.0)" in text
    assert run.record.starts[0].format_commit() in text
    assert run.record.starts[0].command in text
    for name in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text):
        assert ET.parse(tmp_path / name).getroot().tag.endswith("svg")


def test_report_without_runs_says_not_run_everywhere(tmp_path: Path):
    text = report(ReportConfig(runs=(), out=tmp_path)).read_text()
    assert text.count("| not run ") == 2 * len(paper.CLAIMS)
    assert "## Runs" not in text


def test_the_same_runs_give_the_same_bytes(finished_run: Path):
    run = read_run(finished_run)
    assert draw_claims([run]) == draw_claims([run])
    assert draw_curves([run]) == draw_curves([run])


def test_a_page_of_somebody_else_is_not_overwritten_and_an_own_one_is(finished_run: Path, tmp_path: Path):
    (tmp_path / "report.md").write_text("my notes")
    with pytest.raises(InputError, match=r"report.md exists and was not written by `alexnet report`"):
        report(ReportConfig(runs=(), out=tmp_path))
    assert (tmp_path / "report.md").read_text() == "my notes"
    assert list(tmp_path.iterdir()) == [tmp_path / "report.md"]
    (tmp_path / "report.md").unlink()
    report(ReportConfig(runs=(), out=tmp_path))
    assert "## Runs" in report(ReportConfig(runs=(finished_run,), out=tmp_path)).read_text()
