"""The report: what its page holds of runs that may answer nothing, and whose page it replaces."""

import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pipeline.claims import CLAIMS
from pipeline.errors import InputError
from pipeline.options import ReportConfig
from pipeline.report.answers import list_answers
from pipeline.report.document import escape_markdown
from pipeline.report.measured import read_run
from pipeline.report.stage import report
from pipeline.report.verdicts import RULES

WITHOUT_RUN = {"parameters", "neurons", "sparse-coding", "sift-fvs", "runner-up"}
NUM_NOT_RUN = len(CLAIMS) - len(WITHOUT_RUN)


def test_a_run_on_other_data_answers_no_claim(finished_run: Path):
    answers = list_answers([read_run(finished_run)])
    assert {answer.claim.key for answer in answers if answer.verdict != "not run"} == WITHOUT_RUN
    (one,) = (answer for answer in answers if answer.claim.key == "one-cnn-2012")
    assert one.remarks == ("finished: modified",)


def test_report_holds_every_claim_the_rules_and_the_run_with_its_modifications(finished_run: Path, tmp_path: Path):
    text = report(ReportConfig(runs=(finished_run,), out=tmp_path)).read_text()
    for claim in CLAIMS:
        assert f"| {escape_markdown(claim.text)} " in text
    assert RULES in text
    run = read_run(finished_run)
    evaluation = run.find_evaluation("val", "ten")
    assert f"{evaluation.top1_error * 100:.2f} \\[" in text
    assert "`model.width` = 0.125 (1.0)" in text
    assert escape_markdown(run.record.starts[0].format_commit()) in text
    assert run.record.starts[0].command in text
    for name in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text):
        assert ET.parse(tmp_path / name).getroot().tag.endswith("svg")
    ids = re.findall(r' id="([^"]*)"', (tmp_path / "report.html").read_text())
    assert len(ids) == len(set(ids))


def test_report_without_runs_says_not_run_everywhere(tmp_path: Path):
    text = report(ReportConfig(runs=(), out=tmp_path)).read_text()
    assert text.count("| not run ") == 2 * NUM_NOT_RUN
    assert "## Runs" not in text


def test_a_copy_of_a_run_is_shown_once_and_a_run_from_within_has_its_name(finished_run, tmp_path, monkeypatch):
    copied = Path(shutil.copytree(finished_run, tmp_path / "copied"))
    monkeypatch.chdir(copied)
    text = report(ReportConfig(runs=(Path(), finished_run), out=tmp_path / "out")).read_text()
    assert "## Run copied\n" in text
    assert "## Run finished" not in text
    assert "finished is left out: it is the same run as copied" in text


def test_damaged_predictions_are_said_by_name(finished_run: Path, tmp_path: Path):
    copied = Path(shutil.copytree(finished_run, tmp_path / "copied"))
    (newest,) = (copied / "predictions").glob("val-ten-*.npz")
    newest.write_bytes(newest.read_bytes()[:1000])
    text = report(ReportConfig(runs=(copied,), out=tmp_path / "out", pictures=False)).read_text()
    assert f"{newest.name} is damaged" in text


def test_a_page_of_somebody_else_is_not_overwritten_and_an_own_one_is(finished_run: Path, tmp_path: Path):
    (tmp_path / "report.md").write_text("my notes")
    with pytest.raises(InputError, match=r"report.md exists and was not written by `alexnet report`"):
        report(ReportConfig(runs=(), out=tmp_path))
    assert (tmp_path / "report.md").read_text() == "my notes"
    assert list(tmp_path.iterdir()) == [tmp_path / "report.md"]
    (tmp_path / "report.md").unlink()
    report(ReportConfig(runs=(), out=tmp_path))
    assert "## Runs" in report(ReportConfig(runs=(finished_run,), out=tmp_path)).read_text()
