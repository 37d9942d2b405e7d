"""Checkpoints on disk: what comes back, what is kept, what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.checkpoint import (
    Checkpoint,
    Identity,
    check_belongs,
    find_checkpoints,
    find_sound,
    name_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from pipeline.config import ExperimentConfig
from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS


def build_checkpoint(
    *, step: int = 30, experiment: str = "source-2012", evaluations: tuple[tuple[int, float], ...] = ()
) -> Checkpoint:
    generator = torch.Generator().manual_seed(step)
    parameter = torch.nn.Parameter(torch.randn(20, 10, generator=generator))
    optimizer = torch.optim.SGD([{"params": [parameter], "role": "weights", "buffer_lr": 0.01}], lr=0.01, momentum=0.9)
    parameter.grad = torch.randn(20, 10, generator=generator)
    optimizer.step()
    return Checkpoint(
        experiment=experiment,
        config=EXPERIMENTS[experiment].config,
        data_digest="d" * 64,
        step=step,
        steps_per_epoch=10,
        evaluations=evaluations,
        draws_digest="e" * 64,
        stalled=True,
        model={"fc8.weight": parameter.detach()},
        optimizer=optimizer.state_dict(),
        scaler={"scale": 2.0**15, "growth_factor": 2.0, "_growth_tracker": 7},
    )


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_what_is_read_is_what_was_written_to_the_bit(tmp_path, experiment):
    written = build_checkpoint(experiment=experiment, evaluations=((1, 0.5), (3, 1 / 3)))
    read = read_checkpoint(write_checkpoint(tmp_path, written, keep=1))
    tensors = {"model", "optimizer"}
    for field in {field.name for field in dataclasses.fields(Checkpoint)} - tensors:
        assert getattr(read, field) == getattr(written, field), field
    assert torch.equal(read.model["fc8.weight"], written.model["fc8.weight"])
    momentum = [checkpoint.optimizer["state"][0]["momentum_buffer"] for checkpoint in (read, written)]
    assert torch.equal(*momentum)
    assert read.optimizer["param_groups"] == written.optimizer["param_groups"]


def test_the_epoch_counts_only_finished_ones():
    assert [build_checkpoint(step=step).epoch for step in (9, 10, 19, 20)] == [0, 1, 1, 2]


def test_the_newest_by_step_are_kept_and_nothing_else_is_touched(tmp_path):
    (tmp_path / "step-notes.pt").write_text("mine")
    for step in (99_999_999, 100_000_000, 5):
        write_checkpoint(tmp_path, build_checkpoint(step=step), keep=5)
    found = [path.name for path in find_checkpoints(tmp_path)]
    assert found == ["step-00000005.pt", "step-99999999.pt", "step-100000000.pt"]
    write_checkpoint(tmp_path, build_checkpoint(step=100_000_001), keep=2)
    assert [path.name for path in find_checkpoints(tmp_path)] == ["step-100000000.pt", "step-100000001.pt"]
    assert (tmp_path / "step-notes.pt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("evaluations", "step"),
    [((), None), (((1, 0.5),), 10), (((1, 0.5), (2, 0.4), (3, 0.4)), 20), (((2, 0.3), (4, 0.6)), 20)],
)
def test_the_best_step_is_the_end_of_the_first_epoch_with_the_lowest_error(evaluations, step):
    assert build_checkpoint(evaluations=evaluations).best_step == step


def test_the_best_stays_beyond_the_newest_until_there_is_a_better_one(tmp_path):
    left, evaluations = [], ()
    for epoch, error in enumerate((0.5, 0.3, 0.4, 0.6, 0.2, 0.2, 0.9), start=1):
        evaluations = (*evaluations, (epoch, error))
        write_checkpoint(tmp_path, build_checkpoint(step=10 * epoch, evaluations=evaluations), keep=1)
        left.append([int(path.stem.removeprefix("step-")) // 10 for path in find_checkpoints(tmp_path)])
    assert left == [[1], [2], [2, 3], [2, 4], [5], [5, 6], [5, 7]]


def test_a_newer_one_that_training_went_back_from_counts_for_nothing(tmp_path):
    for step in (10, 20, 40):
        write_checkpoint(tmp_path, build_checkpoint(step=step), keep=9)
    write_checkpoint(tmp_path, build_checkpoint(step=30), keep=1)
    assert [path.name for path in find_checkpoints(tmp_path)] == ["step-00000030.pt", "step-00000040.pt"]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_newest_sound_one_is_found_with_a_sentence_for_each_that_is_passed_over(tmp_path):
    paths = [write_checkpoint(tmp_path, build_checkpoint(step=step), keep=9) for step in (10, 20, 30)]
    assert find_sound(tmp_path) == (paths[2], [])
    damage(paths[2])
    assert find_sound(tmp_path) == (paths[1], [f"{paths[2]} is damaged, going back to step-00000020.pt"])
    paths[1].write_bytes(b"")
    assert find_sound(tmp_path) == (
        paths[0],
        [f"{path} is damaged, going back to step-00000010.pt" for path in (paths[2], paths[1])],
    )
    damage(paths[0])
    names = ", ".join(path.name for path in paths)
    with pytest.raises(InputError, match=rf"all checkpoints in .* are damaged \({names}\): start anew"):
        find_sound(tmp_path)


def test_where_there_is_none_none_is_found(tmp_path):
    assert find_sound(tmp_path / "none") == (None, [])


def test_the_rest_of_a_write_cut_short_is_passed_over(tmp_path):
    path = write_checkpoint(tmp_path, build_checkpoint(), keep=1)
    before = path.read_bytes()
    leftover = tmp_path / f".{path.name}.elsewhere-17.tmp"
    leftover.write_bytes(before[:1000])
    assert find_sound(tmp_path) == (path, [])
    write_checkpoint(tmp_path, build_checkpoint(step=40), keep=1)
    assert leftover.exists()  # of a process that may still be at it
    assert find_checkpoints(tmp_path) == [name_checkpoint(tmp_path, 40)]


def test_a_directory_that_does_not_exist_holds_no_checkpoint(tmp_path):
    assert find_checkpoints(tmp_path / "none") == []


def test_any_flipped_byte_is_noticed(tmp_path):
    path = write_checkpoint(tmp_path, build_checkpoint(), keep=1)
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 300).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"step-00000030\.pt is damaged"):
            read_checkpoint(path)
    path.write_bytes(content)
    assert read_checkpoint(path).step == 30


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_cut_short_is_refused_by_name(tmp_path, share):
    path = write_checkpoint(tmp_path, build_checkpoint(), keep=1)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"step-00000030\.pt is damaged.*: remove it"):
        read_checkpoint(path)


def test_a_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "step-00000001.pt"
    torch.save({"model": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="no checkpoint that `alexnet train` wrote"):
        read_checkpoint(path)
    with pytest.raises(InputError, match=r"nowhere\.pt does not exist"):
        read_checkpoint(tmp_path / "nowhere.pt")


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path, build_checkpoint(), keep=1)
    state = torch.load(path)
    del state["evaluations"]
    monkeypatch.setattr(torch, "load", lambda *_, **__: state)
    with pytest.raises(InputError, match=r"step-00000030\.pt was written by an earlier version"):
        read_checkpoint(path)


def change_config(**fields) -> ExperimentConfig:
    return dataclasses.replace(EXPERIMENTS["paper"].config, **fields)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"experiment": "source-2012"}, "there belongs to experiment 'paper', not 'source-2012'"),
        ({"config": change_config(seed=3)}, r"another configuration \(seed is 0 there and 3 now\)"),
        ({"data_digest": "e" * 64}, "trained on the shard set dddddddddddd, not on eeeeeeeeeeee"),
    ],
)
def test_what_belongs_to_another_run_is_refused_with_the_difference(wanted, message):
    found = Identity(experiment="paper", config=change_config(), data_digest="d" * 64)
    check_belongs(Path("there"), found, found)
    with pytest.raises(InputError, match=message):
        check_belongs(Path("there"), found, dataclasses.replace(found, **wanted))
