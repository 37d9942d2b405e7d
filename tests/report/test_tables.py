"""Tables: what the report's hold, and foreign text that stays text in Markdown, CSV and LaTeX."""

import csv
import dataclasses
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from markdown_it import MarkdownIt
from written_runs import draw_ranks, read_runs, tiny_imagenet, write_evaluation, write_run

from pipeline.claims import CLAIMS
from pipeline.report.answers import list_answers
from pipeline.report.document import (
    LATEX_PACKAGES,
    Section,
    Table,
    escape_formula,
    escape_markdown,
    format_code,
    format_count,
)
from pipeline.report.figures.names import format_label
from pipeline.report.html import render_html
from pipeline.report.origins import format_origins
from pipeline.report.tables import build_claims_table, build_runs_table

__all__ = ["tiny_imagenet"]

FOREIGN = (
    "a|b",
    r"a\|b",
    "<script>alert(1)</script>",
    "`code`",
    "*bold* and _under_ and ~~gone~~",
    "[name](https://example.org)",
    "![x](y)",
    "two\nlines",
    "&lt; &amp;",
    r"back\slash",
    "50 % of $5 #1 {x} ^ ~ $x$",
    "=1+1",
    "ünïcode 汉字",
)


def read_cells(markdown: str) -> list[list[str]]:
    """The cells of a table as a reader of GitHub's Markdown sees them: the texts of its inline tokens."""
    tokens = MarkdownIt("js-default").parse(markdown)
    cells = [token for token in tokens if token.type == "inline"]
    assert all(child.type in {"text", "text_special"} for cell in cells for child in cell.children), markdown
    texts = ["".join(child.content for child in cell.children) for cell in cells]
    width = sum(token.type == "th_open" for token in tokens)
    return [texts[i : i + width] for i in range(0, len(texts), width)]


@pytest.mark.parametrize("text", FOREIGN)
def test_foreign_text_is_shown_as_it_is_in_markdown(text):
    table = Table(name="t", headers=("one", text), rows=((text, "x"), ("y", text)))
    line = " ".join(text.split())
    assert read_cells(table.format_markdown()) == [["one", line], [line, "x"], ["y", line]]
    (inline,) = (token for token in MarkdownIt("js-default").parse(f"- **{escape_markdown(text)}**") if token.children)
    assert "".join(child.content for child in inline.children) == line


@pytest.mark.parametrize("text", ["plain", "`a`", "a `` b", "`", "x\ny", "<b>", "a|b"])
def test_foreign_text_is_shown_as_it_is_in_code(text):
    (inline,) = (token for token in MarkdownIt("js-default").parse(f"see {format_code(text)}!") if token.children)
    assert [child.content for child in inline.children] == ["see ", " ".join(text.split()), "!"]


@pytest.mark.parametrize("text", FOREIGN)
def test_a_csv_gives_back_what_went_in_but_for_formulas(text):
    table = Table(name="t", headers=("one", 'two, "quoted"'), rows=((text, "x"),))
    rows = list(csv.reader(io.StringIO(table.format_csv())))
    assert rows == [["one", 'two, "quoted"'], [("'" if text.startswith("=") else "") + " ".join(text.split()), "x"]]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "'=1+1"),
        (" \r\n@x", "'@x"),
        ("＝1+1", "'＝1+1"),
        ("-", "'-"),
        ("-0.5", "-0.5"),
        ("+3", "+3"),
        ("-1e-05", "-1e-05"),
        ("-1_0", "'-1_0"),
        ("-٣", "'-٣"),
        ("−0.50 [−1.00, 0.00]", "−0.50 [−1.00, 0.00]"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula_and_numbers_stay_numbers(text, written):
    assert escape_formula(text) == written


def test_latex_escapes_what_is_foreign_and_has_booktabs_rules():
    latex = Table(name="t", headers=("a_b", "c"), rows=((r"50 % \x {y}", "$&#"), ("<z>\n", "~^"))).format_latex()
    latex = re.sub(" +", " ", latex)
    assert r"a\_b & c" in latex
    assert r"50 \% \textbackslash{}x \{y\} & \$\&\#" in latex
    assert r"\ensuremath{<}z\ensuremath{>} & \textasciitilde{}\^{}" in latex
    assert [latex.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert latex.count(r"\\") == 3


@pytest.mark.parametrize("text", ["[1em] x", "*x"])
def test_no_first_cell_of_a_latex_row_belongs_to_the_line_before_it(text):
    latex = Table(name="t", headers=("a", "b"), rows=(("x", "--y"), (text, "−1 [−2, 3]"))).format_latex()
    (line,) = (line for line in latex.splitlines() if text in line)
    assert "-{}-y" in latex
    assert re.sub(" +", " ", line).strip() == rf"{{}}{text} & $-$1 [$-$2, 3] \\"


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex here; apt-get install texlive-latex-recommended"
)
def test_latex_of_all_claims_compiles(tmp_path):
    table = build_claims_table(list_answers([]))
    table.write(tmp_path)
    (tmp_path / "page.tex").write_text(
        r"\documentclass[a4paper]{article}\usepackage[landscape,margin=2cm]{geometry}"
        rf"{LATEX_PACKAGES}\begin{{document}}\footnotesize\input{{claims.tex}}\end{{document}}"
    )
    said = subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, check=True, capture_output=True)
    assert b"Overfull" not in said.stdout


def test_latex_has_the_columns_that_are_printed_within_the_width_of_the_text():
    table = Table(name="t", headers=("a", "b", "c"), rows=(("x" * 90, "left out", "y"),), printed=("a", "c"))
    latex = table.format_latex()
    assert "left out" not in latex
    assert latex.startswith(f"% {LATEX_PACKAGES}\n")
    shares = [float(share) for share in re.findall(r"p\{\\dimexpr ([\d.]+)\\linewidth-2\\tabcolsep\}", latex)]
    assert shares == pytest.approx([35 / 41, 6 / 41], abs=1e-4)
    assert "left out" in table.format_csv()


def test_a_column_that_is_empty_in_every_row_is_in_the_csv_alone():
    table = Table(name="t", headers=("one", "none", "two"), rows=(("a", "", ""), ("", "", "b")))
    assert read_cells(table.format_markdown()) == [["one", "two"], ["a", ""], ["", "b"]]
    page = render_html("t", [Section(title="t", parts=(table,))])
    assert re.findall('<th scope="col">(.*)</th>', page) == ["one", "two"]
    assert len(re.findall("<td", page)) == 4
    assert table.format_csv() == "one,none,two\na,,\n,,b\n"
    empty = Table(name="t", headers=("one", "two"), rows=())
    assert empty.leave_out_empty() is empty


def test_a_table_is_written_as_csv_and_latex(tmp_path):
    table = Table(name="name", headers=("a",), rows=(("1",),))
    table.write(tmp_path / "tables")
    assert (tmp_path / "tables" / "name.csv").read_text() == table.format_csv() == "a\n1\n"
    assert (tmp_path / "tables" / "name.tex").read_text() == table.format_latex()


def test_the_claims_table_has_a_row_a_claim_in_the_paper_s_order():
    table = build_claims_table(list_answers([]))
    assert [row[0] for row in table.rows] == [claim.text for claim in CLAIMS]
    rows = {row[0]: dict(zip(table.headers, row, strict=True)) for row in table.rows}
    columns = ("paper: top-1/top-5 error, %", "source's own record, %", "measured, % [95% interval]", "verdict")

    def show(text: str) -> list[str]:
        return [rows[text][column] for column in columns]

    assert show("CNN, ten views") == ["37.5/17.0", "37.47/17.00, log loss 1.6147 (net 145)", "not run", "not run"]
    assert show("SIFT + FVs") == ["45.7/25.7", "", "", "others' work"]
    assert show("One GPU instead of two: worse by")[:2] == ["1.7/1.2", "1.70/1.23 (net 145-half)"]
    assert show("Without the middle layer conv4: worse by about")[0] == "2/–"
    assert show("SIFT + FVs, second in 2012, test")[0] == "–/26.2"
    assert show("Parameters") == ["60 million", "", "60,965,224", "reproduced"]
    assert rows["7 CNNs*, validation"]["experiment"] == "5 × source-2012 + 2 × six-conv-finetune"
    assert rows["1 CNN, validation"]["data"] == "ILSVRC-2012 val, ten views"


def test_an_answered_row_says_who_measured_it_from_which_code_on_what_and_for_how_long(tmp_path):
    paths = [write_run(tmp_path, name) for name in ("no-lrn", "source-2012")]
    for path in paths:
        write_evaluation(path, draw_ranks(np.random.default_rng(2), top1=160, top5=70), commit="feed" * 10)
    table = build_claims_table(list_answers(read_runs(*paths)))
    row = next(dict(zip(table.headers, row, strict=True)) for row in table.rows if "response" in row[0])
    assert row["measured, % [95% interval]"].startswith("0.00 [−")
    assert row["experiment"] == "no-lrn against source-2012"
    assert row["run"] == "no-lrn, source-2012"
    assert row["commit"] == "c0ffeec0ffee, feedfeedfeed"  # trained, then evaluated
    assert row["shard set"] == "ilsvrc2012 d1ge57d1ge57, 256 to train, 400 classified"
    assert row["training time, h:mm:ss"] == "1:37:00, 1:31:00"


def test_the_runs_table_and_the_list_below_it_show_every_run_by_its_own_name(tmp_path):
    path = write_run(tmp_path, "source-2012")
    renamed = path.rename(tmp_path / "my <run> | `1`")
    (run,) = read_runs(renamed)
    modified = dataclasses.replace(run, record=dataclasses.replace(run.record, status="modified"))
    table = build_runs_table([run, modified])
    assert [row[0] for row in table.rows] == ["my <run> | `1`"] * 2
    assert [row[1] for row in table.rows] == ["source-2012 (as registered)", "source-2012 (modified)"]
    assert [cells[0] for cells in read_cells(table.format_markdown())[1:]] == ["my <run> | `1`"] * 2
    assert format_origins([run]) == r"- **my \<run\> \| \`1\`**: `alexnet train`"


def test_a_run_of_another_seed_is_as_registered_and_one_that_changed_more_is_not(tmp_path):
    (run,) = read_runs(write_run(tmp_path, "source-2012", seed=3))
    record = dataclasses.replace(run.record, config=dataclasses.replace(run.record.config, precision="bfloat16"))
    table = build_runs_table([run, dataclasses.replace(run, record=record)])
    assert [row[1] for row in table.rows] == ["source-2012 (as registered, seed 3)", "source-2012 (modified)"]
    assert format_label(run) == "source-2012-3: source-2012 (as registered, seed 3)"


@pytest.mark.parametrize(
    ("epochs", "shown"), [(28.9744, "28.9 of 91"), (0.04, "0 of 91"), (1.0, "1 of 91"), (90.999, "90.9 of 91")]
)
def test_epochs_are_rounded_down_and_who_was_not_evaluated_says_so(tmp_path, epochs, shown):
    (run,) = read_runs(write_run(tmp_path, "source-2012"))
    table = build_runs_table([dataclasses.replace(run, train_losses=((epochs, 1.0),))])
    (row,) = [dict(zip(table.headers, row, strict=True)) for row in table.rows]
    assert row["epochs"] == shown
    assert [cell for header, cell in row.items() if header.startswith("val, ")] == ["not evaluated"] * 2


def test_what_happened_once_is_said_in_the_singular(tmp_path):
    (run,) = read_runs(write_run(tmp_path, "source-2012"))
    record = dataclasses.replace(run.record, starts=run.record.starts * 2)
    resumed = dataclasses.replace(run, record=record, num_skipped=1)
    assert format_origins([resumed]).endswith(
        "`alexnet train`, resumed 1 time; left out as damaged in training and its validation: 1 time"
    )
    assert [format_count(count, "run") for count in (0, 1, 2, 1500)] == ["0 runs", "1 run", "2 runs", "1,500 runs"]
