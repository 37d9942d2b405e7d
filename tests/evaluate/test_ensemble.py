"""Several runs as one: probabilities averaged picture by picture, counted exactly, refused where they do not match."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.artifacts import EvaluationRecord, RunDirectory, read_json, write_bytes, write_json
from pipeline.cli import main
from pipeline.errors import InputError
from pipeline.evaluate.ensemble import EnsembleRecord, combine
from pipeline.options import EnsembleConfig

VIEWS = "ten"
NAME = f"val-{VIEWS}-step-12"


def read_saved(run: Path) -> dict[str, np.ndarray]:
    with np.load(RunDirectory(run).predictions / f"{NAME}.npz") as saved:
        return dict(saved)


def write_saved(run: Path, saved: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **saved)
    write_bytes(RunDirectory(run).predictions / f"{NAME}.npz", content.getvalue())


@pytest.fixture
def members(finished_run: Path, tmp_path: Path) -> tuple[Path, ...]:
    """Three runs whose probabilities are all their own."""
    runs = tuple(tmp_path / f"seed-{seed}" for seed in range(3))
    for seed, run in enumerate(runs):
        shutil.copytree(finished_run, run, ignore=shutil.ignore_patterns("checkpoints"))
        saved = read_saved(run)
        shape = saved["probabilities"].shape
        own = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).softmax(1)
        write_saved(run, saved | {"probabilities": own.numpy()})
    return runs


def test_errors_are_those_of_the_mean_probabilities(members, tmp_path):
    record = combine(EnsembleConfig(runs=members, views=VIEWS, out=tmp_path / "three.json"))
    labels = read_saved(members[0])["labels"]
    mean = np.mean([read_saved(run)["probabilities"].astype(np.float64) for run in members], axis=0)
    of_label = mean[np.arange(len(labels)), labels]
    assert record.num_images == len(labels)
    assert record.num_top1_errors == int((mean.argmax(1) != labels).sum())
    assert record.num_top5_errors == 0  # of four classes
    assert record.log_loss == pytest.approx(-np.log(of_label).mean(), rel=1e-9)
    assert read_json(tmp_path / "three.json", EnsembleRecord) == record


def test_a_run_with_itself_under_another_name_is_the_run(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "twin")
    record = combine(EnsembleConfig(runs=(finished_run, tmp_path / "twin"), views=VIEWS))
    alone = read_json(RunDirectory(finished_run).predictions / f"{NAME}.json", EvaluationRecord)
    assert (record.num_top1_errors, record.num_top5_errors) == (alone.num_top1_errors, alone.num_top5_errors)
    assert record.log_loss == pytest.approx(alone.log_loss, rel=1e-6)


def test_each_run_stands_beside_what_they_are_together(members, capsys):
    main(["ensemble", *map(str, members)])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "val, ten views, 20 pictures"
    assert [line.split()[0] for line in said[3:]] == [*map(str, members), "the"]
    assert said[-1].startswith("the 3 together")


def test_runs_on_other_pictures_or_without_predictions_are_refused(members, tmp_path):
    saved = read_saved(members[1])
    write_saved(members[1], saved | {"labels": saved["labels"][::-1]})
    with pytest.raises(InputError, match=r"seed-1 was evaluated on other pictures than .*seed-0: evaluate all on one"):
        combine(EnsembleConfig(runs=members, views=VIEWS))
    write_saved(members[1], {name: values[:-1] for name, values in saved.items()})
    with pytest.raises(InputError, match=r"seed-1 was evaluated on other pictures"):
        combine(EnsembleConfig(runs=members, views=VIEWS))
    path = RunDirectory(members[2]).predictions / f"{NAME}.json"
    write_json(path, {**read_json(path, dict), "data_digest": "another"})
    with pytest.raises(InputError, match="seed-2 was evaluated on other pictures"):
        combine(EnsembleConfig(runs=(members[0], members[2]), views=VIEWS))
    shutil.rmtree(RunDirectory(members[2]).predictions)
    with pytest.raises(
        InputError, match=r"seed-2 has no predictions for val, ten: run `alexnet evaluate .*seed-2 --sp"
    ):
        combine(EnsembleConfig(runs=(members[0], members[2]), views=VIEWS))


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [(("a",), "needs at least two runs, found 1"), (("a", "a"), "needs different runs, found one of them twice")],
)
def test_fewer_than_two_different_runs_are_refused(runs, sentence):
    with pytest.raises(InputError, match=sentence):
        EnsembleConfig(runs=tuple(map(Path, runs)))


def test_an_existing_file_is_not_replaced(members, tmp_path):
    (tmp_path / "kept.json").write_text("mine")
    with pytest.raises(InputError, match=r"kept.json already exists: choose another file"):
        EnsembleConfig(runs=members, out=tmp_path / "kept.json")
