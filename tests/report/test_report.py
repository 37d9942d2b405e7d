"""The report: what its page holds of runs that may answer nothing, and whose files it replaces."""

import dataclasses
import os
import re
import shutil
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pipeline.artifacts import RunDirectory, ShardSet, write_json
from pipeline.claims import CLAIMS
from pipeline.errors import InputError
from pipeline.options import ReportConfig
from pipeline.report.answers import list_answers
from pipeline.report.document import escape_markdown
from pipeline.report.measured import read_run
from pipeline.report.sections import build_sections
from pipeline.report.stage import format_markdown, report
from pipeline.report.verdicts import RULES
from pipeline.tracking import sync_run

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
    text = format_markdown(build_sections([], results=tmp_path, pictures=True))
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


def test_the_results_of_who_trained_here_come_before_the_claims_that_they_do_not_answer(finished_run, tmp_path):
    text = report(ReportConfig(runs=(finished_run,), out=tmp_path, pictures=False)).read_text()
    titles = ["Runs", "Run finished", "Claims of the paper", "How rows are judged"]
    assert re.findall("^## (.*)", text, re.MULTILINE) == titles
    assert "(figures/comparison.svg)" not in text  # of a single run, whose own figure has it all
    assert text.count("(figures/learning-curves-") == 1


def test_of_a_run_that_was_never_evaluated_one_sentence_says_so(finished_run: Path, tmp_path: Path):
    copied = Path(shutil.copytree(finished_run, tmp_path / "copied"))
    shutil.rmtree(copied / "predictions")
    text = report(ReportConfig(runs=(copied,), out=tmp_path / "out")).read_text()
    assert text.count("alexnet evaluate copied") == 1
    assert "No predictions on val or test are saved: `alexnet evaluate copied --neighbours 5` makes them" in text
    assert text.count("| not evaluated ") == 2
    assert "not shown" not in text


def test_a_page_calls_a_run_by_its_name_and_not_by_where_it_lies(finished_run: Path, tmp_path: Path):
    copied = Path(shutil.copytree(finished_run, tmp_path / "lies" / "copied"))
    without = Path(shutil.copytree(finished_run, tmp_path / "lies" / "without"))
    for run in (copied, without):
        record = RunDirectory(run).read_record()
        write_json(RunDirectory(run).config, dataclasses.replace(record, id=run.name))
    (newest,) = (copied / "predictions").glob("val-ten-*.npz")
    newest.write_bytes(b"nothing")
    shutil.rmtree(without / "predictions")
    page = report(ReportConfig(runs=(copied, without), out=tmp_path / "out"))
    text = page.read_text() + page.with_suffix(".html").read_text()
    assert "copied has no neighbours: run \\`alexnet evaluate copied --neighbours 5\\`" in text
    assert f"copied/predictions/{newest.name} is damaged" in text.replace("\\", "")
    assert str(tmp_path) not in text.replace("\\", "")


def test_a_tracked_run_of_another_version_is_left_out_and_the_others_are_reported(finished_run: Path, tmp_path: Path):
    runs = [
        RunDirectory(Path(shutil.copytree(finished_run, tmp_path / name, ignore=shutil.ignore_patterns("mlflow.json"))))
        for name in ("old", "new")
    ]
    write_json(runs[1].config, dataclasses.replace(runs[1].read_record(), id="another"))
    old, _ = map(sync_run, runs)
    (stored,) = tmp_path.glob(f"mlflow-artifacts/**/{old.run_id}/artifacts/config.json")
    stored.write_text(stored.read_text().replace('"status"', '"state"'))
    text = report(ReportConfig(runs=(), tracking_uri=old.server, out=tmp_path / "out", pictures=False)).read_text()
    assert "## Run new\n" in text
    assert "old is left out: old/config.json does not fit this version: field status" in text
    assert "## Run old\n" not in text


def test_neither_runs_nor_a_server_is_no_report():
    with pytest.raises(InputError, match=r"name run directories that `alexnet train` wrote, or give .* --tracking-uri"):
        ReportConfig(runs=())


def test_a_page_of_somebody_else_is_not_overwritten_and_an_own_one_is(finished_run: Path, tmp_path: Path):
    config = ReportConfig(runs=(finished_run,), out=tmp_path, pictures=False)
    (tmp_path / "report.md").write_text("my notes")
    with pytest.raises(InputError, match=r"report.md exists and was not written by `alexnet report`"):
        report(config)
    assert (tmp_path / "report.md").read_text() == "my notes"
    assert list(tmp_path.iterdir()) == [tmp_path / "report.md"]
    (tmp_path / "report.md").unlink()
    report(config)
    figure = tmp_path / "figures" / "claims.svg"
    figure.write_text("an older one")
    assert "## Runs" in report(config).read_text()
    assert figure.read_text().startswith("<svg")


@pytest.mark.parametrize("name", ["report.html", "figures/claims.svg", "tables/claims.csv", "tables/runs.tex"])
def test_a_file_that_no_report_lists_is_not_replaced(finished_run: Path, tmp_path: Path, name: str):
    foreign = tmp_path / name
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine")
    with pytest.raises(InputError, match=rf"{name} exists and is of no report in --out {tmp_path}: move it away"):
        report(ReportConfig(runs=(finished_run,), out=tmp_path, pictures=False))
    assert foreign.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [foreign]


def test_a_figure_of_somebody_else_beside_an_own_report_is_not_replaced(finished_run: Path, tmp_path: Path):
    path = report(ReportConfig(runs=(finished_run,), out=tmp_path, pictures=False))
    (removed, *_) = re.findall(r"\((figures/learning-[^)]*)\)", path.read_text())
    path.write_text(path.read_text().replace(removed, "figures/other.svg"))
    with pytest.raises(InputError, match=rf"{removed} exists and is of no report"):
        report(ReportConfig(runs=(finished_run,), out=tmp_path, pictures=False))


@pytest.mark.parametrize(("out", "taken"), [("out", "out"), ("out/below", "out"), ("out", "out/figures")])
def test_a_file_where_a_folder_should_be_is_named_before_any_run_is_read(tmp_path: Path, out: str, taken: str):
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).write_text("mine")
    with pytest.raises(InputError, match=rf"--out {tmp_path / out} cannot be a folder: {tmp_path / taken} is a file"):
        report(ReportConfig(runs=(tmp_path / "none",), out=tmp_path / out))


def test_a_folder_that_cannot_be_written_to_is_named():
    with tempfile.TemporaryDirectory(prefix="alexnet-") as name:
        folder, is_root = Path(name), os.geteuid() == 0
        folder.chmod(0o555)
        if is_root:  # whom no permission stops
            os.seteuid(65534)
        try:
            with pytest.raises(InputError, match=rf"--out {name}/out cannot be written: you may not write to {name};"):
                report(ReportConfig(runs=(Path("none"),), out=folder / "out"))
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_pictures_of_a_set_that_no_run_was_trained_on_are_refused(
    finished_run: Path, few_set: ShardSet, tmp_path: Path
):
    def make(data: Path) -> str:
        return report(ReportConfig(runs=(finished_run,), data=data, out=tmp_path / "out")).read_text()

    trained, found = RunDirectory(finished_run).read_record(), few_set.info.digest[:12]
    expected = rf"--data {few_set.path} has the digest {found}, and no run .* but on {trained.data_digest[:12]}"
    with pytest.raises(InputError, match=expected):
        make(few_set.path)
    with pytest.raises(InputError, match=rf"{tmp_path} has no dataset.json"):
        make(tmp_path)
    assert not (tmp_path / "out").exists()
    assert "(figures/guesses-" in make(Path(trained.data))
