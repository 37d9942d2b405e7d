"""The contrast: what each recipe is, real runs of two of them, the verdicts and the page."""

import dataclasses
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from pipeline import paper
from pipeline.artifacts import RunDirectory, ShardSet
from pipeline.config import ExperimentConfig
from pipeline.errors import InputError, RunError
from pipeline.experiments import find_differences, flatten, get_experiment
from pipeline.launch.contrast import Trial, contrast, list_words
from pipeline.launch.recipes import RECIPES
from pipeline.options import ContrastConfig
from pipeline.parsing import parse_words
from pipeline.report.contrast import RecipeRuns, compute_mean, draw_contrast, judge_learning, write_contrast
from pipeline.report.measured import MeasuredRun, read_run

WIDE = {f"model.convs.{i}.weight_std": 0.03 for i in (2, 3, 4)}
SOURCE_RATES = {"schedule.weights": ((0, 0.0025),), "schedule.biases": ((0, 0.005),)}
SMALL_BIASES = {f"model.{layer}.bias": 0.1 for layer in ("convs.1", "convs.3", "convs.4", "linears.0", "linears.1")}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("source", SOURCE_RATES),
        ("source-rate-0.01", {"schedule.weights": ((0, 0.01),), "schedule.biases": ((0, 0.02),)}),
        ("source-inverted-dropout", SOURCE_RATES | {"model.inverted_dropout": True}),
        ("text", {"model.inverted_dropout": True}),
        ("text-std-0.03", WIDE | {"model.inverted_dropout": True}),
        ("text-std-0.03-bias-0.1", WIDE | SMALL_BIASES | {"model.inverted_dropout": True}),
    ],
)
def test_a_recipe_is_its_experiment_but_for_what_it_says_and_the_size(name: str, changed: dict, tmp_path: Path):
    registered = get_experiment(RECIPES[name].experiment).config

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        data: Path
        out: Path
        num_threads: int
        log_every: int
        config: Annotated[ExperimentConfig, tyro.conf.arg(name="")] = registered

    words = list_words(Trial(name, 2, tmp_path / "run"), ContrastConfig(), tmp_path / "set", 10)
    assert words[:3] == ["alexnet", "train", RECIPES[name].experiment]
    config = parse_words(Arguments, words[3:], prog="alexnet train", description="").config
    size = {
        "model.width": 0.25,
        "model.towers": 1,
        "model.num_classes": 10,
        **{f"model.convs.{i}.groups": 1 for i in (1, 3, 4)},
        "global_batch_size": 32,
        "augment.images_per_crop": 1,
        "precision": "bfloat16",
        "schedule.epochs": 6,
        "seed": 2,
    }
    before = dict(flatten(registered))
    expected = {key: value for key, value in (size | changed).items() if before[key] != value}
    assert {key: found for key, (_, found) in find_differences(registered, config).items()} == expected


def test_the_biases_that_a_recipe_makes_smaller_are_those_that_are_1_in_the_text():
    config = get_experiment("paper").config
    layers = {"convs": config.model.convs, "linears": config.model.linears}
    ones = {f"model.{kind}.{i}.bias" for kind, group in layers.items() for i, it in enumerate(group) if it.bias == 1}
    assert set(SMALL_BIASES) == ones
    assert config.schedule.weights == config.schedule.biases == ((0, paper.LEARNING_RATE),)


def with_errors(run: MeasuredRun, errors: list[float], *, epochs: int, num_classes: int = 10) -> MeasuredRun:
    config = run.record.config
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_classes=num_classes),
        schedule=dataclasses.replace(config.schedule, epochs=epochs),
    )
    points = tuple((epoch + 1.0, error) for epoch, error in enumerate(errors))
    return dataclasses.replace(run, record=dataclasses.replace(run.record, config=config), val_top1_errors=points)


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([0.9, 0.6, 0.49], "left chance"),
        ([0.9, 0.6, 0.5], "in between"),
        ([0.74, 0.38, 0.79], "in between"),
        ([0.74, 0.38, 0.8], "learned, then died"),
        ([0.92, 0.79, 0.9], "learned, then died"),
        ([0.92, 0.81, 0.9], "never left chance"),
        ([0.31, 0.1], "not finished"),
        ([], "not finished"),
    ],
)
def test_a_verdict_follows_the_stated_rule(finished_run: Path, errors: list[float], verdict: str):
    assert judge_learning(with_errors(read_run(finished_run), errors, epochs=3)) == verdict


def test_near_chance_depends_on_the_number_of_classes(finished_run: Path):
    run = with_errors(read_run(finished_run), [0.70, 0.70], epochs=2, num_classes=4)
    assert judge_learning(run) == "never left chance"


def test_page_and_figure_hold_every_seed_their_mean_chance_and_the_verdicts(finished_run: Path, tmp_path: Path):
    run = read_run(finished_run)
    runs = {seed: with_errors(run, errors, epochs=2) for seed, errors in enumerate(([0.5, 0.1], [0.7, 0.9], [0.6]))}
    recipe = RecipeRuns(name="source", words="what ran", runs=runs)
    absent = RecipeRuns(name="text", words="nobody ran it", runs={})
    assert compute_mean(recipe) == ([1.0, 2.0], [pytest.approx(0.6), pytest.approx(0.5)])
    figure = draw_contrast([recipe])
    for said in ("source", "left chance: 1 of 3", "learned, then died: 1 of 3", "not finished: 1 of 3", "chance, 90%"):
        assert f">{said}</text>".encode() in figure
    text = write_contrast(tmp_path / "contrast", [recipe, absent], command="alexnet contrast", threads=2).read_text()
    assert "| 60.0 50.0 " in text
    assert "| 0: left chance; 1: learned, then died; 2: not finished |" in text
    assert "| 50.0 10.0 " in text
    assert run.record.starts[0].command in text
    assert "nobody ran it" not in text


@pytest.mark.slow
def test_runs_are_trained_once_a_failed_one_stops_no_other_and_a_second_start_goes_on(
    shard_set: ShardSet, tmp_path: Path
):
    config = ContrastConfig(
        data=shard_set.path,
        out=tmp_path / "out",
        results=tmp_path / "results" / "found",
        recipes=("source", "text"),
        seeds=1,
        epochs=1,
        width=0.03,
        jobs=2,
        threads=1,
    )
    stray = config.out / "text" / "seed-0" / "notes.txt"
    stray.parent.mkdir(parents=True)
    stray.write_text("mine")
    log = config.out / "text" / "seed-0.log"
    with pytest.raises(RunError, match=rf"1 of 2 runs failed, see what they said in {log}"):
        contrast(config)
    assert "already exists and holds no run" in log.read_text()
    page = tmp_path / "results" / "found.md"
    assert "**text**" not in page.read_text()
    stray.unlink()
    source, text = (RunDirectory(config.out / name / "seed-0") for name in config.recipes)
    before = source.journal.read_bytes(), source.path.with_name("seed-0.log").read_bytes()
    assert contrast(config) == page
    assert (source.journal.read_bytes(), source.path.with_name("seed-0.log").read_bytes()) == before
    for run, experiment in ((source, "source-2012"), (text, "paper")):
        record = run.read_record()
        assert (record.experiment, record.config.model.width, record.config.seed) == (experiment, 0.03, 0)
        (error,) = (error for _, error in read_run(run.path).val_top1_errors)
        assert f"{error * 100:.1f} " in page.read_text()
        assert record.starts[0].command in page.read_text()
    assert ET.parse(page.with_suffix(".svg")).getroot().tag.endswith("svg")
    assert list_words(Trial("text", 0, text.path), config, shard_set.path, 4)[-1] == "--resume"
    with pytest.raises(InputError, match=r"was begun with --width 0.03 --epochs 1 and asked for are --width 0.03 --ep"):
        contrast(dataclasses.replace(config, epochs=2))


def test_what_cannot_be_run_is_refused(tmp_path: Path):
    for wrong, said in (
        ({"seeds": 0}, "--seeds must be positive, found 0"),
        ({"recipes": ()}, "--recipes must name at least one of source, "),
        ({"recipes": ("text", "text")}, "--recipes names a recipe twice"),
        ({"results": Path("contrast.md")}, "--results contrast.md is the name of two files"),
    ):
        with pytest.raises(InputError, match=said):
            ContrastConfig(**wrong)
    (tmp_path / "contrast.md").write_text("my notes")
    with pytest.raises(InputError, match=r"contrast.md exists and was not written by `alexnet contrast`"):
        contrast(ContrastConfig(out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["contrast.md"]
