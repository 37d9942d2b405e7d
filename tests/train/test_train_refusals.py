"""What `alexnet train` refuses: one sentence, exit code 2, and nothing on disk that was not there."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from commands import SMALL_FLAGS, run_command
from ranks import run_ranks

from pipeline.artifacts import MEAN_IMAGE, write_json
from pipeline.augment.loader import TrainLoader
from pipeline.checkpoint import find_checkpoints, read_checkpoint, write_checkpoint
from pipeline.distributed import World
from pipeline.errors import InputError
from pipeline.options import LoadingConfig
from pipeline.train.trainer import check_draws

ALONE = World(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))


@pytest.fixture
def train(shard_set):
    def train(out: Path, *flags: str, experiment: str = "source-2012", data: Path = shard_set.path, processes: int = 1):
        words = ("train", experiment, "--data", str(data), "--out", str(out), "--device=cpu", *SMALL_FLAGS, *flags)
        return run_ranks(*words, processes=processes)

    return train


@pytest.fixture(scope="module")
def stopped_run(shard_set, tmp_path_factory) -> Path:
    """A run that one process left in its first epoch. Read only."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    words = ("train", "source-2012", "--data", str(shard_set.path), "--out", str(run), "--device=cpu", *SMALL_FLAGS)
    ended = run_ranks(*words, "--max-steps=1")
    assert ended.returncode == 0, ended.stderr
    return run


def list_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(ended, *parts: str) -> None:
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("alexnet train: ")
    assert ended.stderr.count("\n") == 1
    for part in parts:
        assert part in ended.stderr


def test_an_existing_directory_is_refused_and_untouched(train, stopped_run):
    before = list_files(stopped_run)
    assert_refused(train(stopped_run), f"--out {stopped_run} already exists: add --resume")
    assert list_files(stopped_run) == before


def test_a_file_as_directory_is_refused_and_untouched(train, tmp_path):
    path = tmp_path / "notes"
    path.write_text("mine")
    assert_refused(train(path), f"--out {path} already exists")
    assert path.read_text() == "mine"


def test_resume_without_a_run_is_refused_and_makes_none(train, tmp_path):
    assert_refused(train(tmp_path / "run", "--resume"), f"{tmp_path / 'run'} has no config.json")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "difference"),
    [
        (("--optimizer.momentum=0.8",), "optimizer.momentum is 0.9 there and 0.8 now"),
        (("--seed=1",), "seed is 0 there and 1 now"),
        (("--global-batch-size=4",), "global_batch_size is 8 there and 4 now"),
        (("--schedule.epochs=5", "--model.dropout=0"), "model.dropout is 0.5 there and 0.0 now, schedule.epochs is 2"),
    ],
)
def test_resume_with_another_configuration_is_refused_with_the_difference(train, stopped_run, flags, difference):
    before = list_files(stopped_run)
    assert_refused(train(stopped_run, "--resume", *flags), "another configuration", difference)
    assert list_files(stopped_run) == before


def test_resume_of_another_experiment_is_refused(train, stopped_run):
    ended = train(stopped_run, "--resume", experiment="paper")
    assert_refused(ended, f"{stopped_run} belongs to experiment 'source-2012', not 'paper'")


def test_resume_on_another_shard_set_is_refused(train, stopped_run, shard_set, tmp_path):
    other = tmp_path / "set"
    shutil.copytree(shard_set.path, other)
    info = dataclasses.replace(shard_set.info, num_dropped=shard_set.info.num_dropped + 1)
    info = dataclasses.replace(info, digest=info.compute_digest())
    write_json(other / "dataset.json", info)
    assert (other / MEAN_IMAGE).is_file()
    ended = train(stopped_run, "--resume", data=other)
    assert_refused(ended, f"trained on the shard set {shard_set.info.digest[:12]}, not on {info.digest[:12]}")


def test_a_wrong_number_of_classes_is_refused(train, tmp_path, shard_set):
    ended = train(tmp_path / "run", "--model.num-classes=5")
    assert_refused(ended, f"{shard_set.path} has 4 classes and the network 5 outputs: pass --model.num-classes 4")
    assert not (tmp_path / "run").exists()


@pytest.mark.distributed
@pytest.mark.parametrize(("flags", "processes"), [((), 3), (("--global-batch-size=9",), 2)])
def test_a_batch_that_does_not_divide_over_the_ranks_is_refused(train, tmp_path, flags, processes):
    ended = train(tmp_path / "run", *flags, processes=processes)
    assert_refused(ended, f"does not divide over {processes} ranks")
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_training_set_is_refused(train, tmp_path):
    assert_refused(train(tmp_path / "run", "--global-batch-size=64"), "48 training pictures, fewer than one batch")


def test_a_checkpoint_with_other_draws_is_refused(train, stopped_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(stopped_run, run)
    (newest,) = find_checkpoints(run / "checkpoints")
    write_checkpoint(newest.parent, dataclasses.replace(read_checkpoint(newest), draws_digest="0" * 64), keep=1)
    before = list_files(run)
    assert_refused(train(run, "--resume"), f"order and draws of epoch 0 are not those of {newest}: all nodes")
    assert list_files(run) == before


def test_a_rank_that_draws_otherwise_than_the_first_is_refused(shard_set, small_config):
    options = {"global_batch_size": 8, "world": ALONE, "loading": LoadingConfig(num_threads=1)}
    here, there = (TrainLoader(shard_set, small_config.augment, seed=seed, **options) for seed in (0, 1))
    digest = here.sampler.compute_digest(7)
    check_draws(here, 7, digest, "rank 0")
    with pytest.raises(InputError, match="order and draws of epoch 1 are not those of rank 0"):
        check_draws(there, 7, digest, "rank 0")


def test_a_decoder_on_a_gpu_that_is_not_used_is_refused(train, tmp_path):
    assert_refused(train(tmp_path / "run", "--decoder=mixed"), "--decoder mixed decodes on a GPU", "take auto or cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--keep=0",), "--keep must be positive, found 0"),
        (("--checkpoint-every=0",), "--checkpoint-every must be positive, found 0"),
        (("--micro-batch=-1",), "--micro-batch must be positive, found -1"),
        (("--stall-after=0",), "--stall-after must be positive, found 0"),
        (("--towers=2",), "--towers 2 does not divide 1 process"),
        (("--fc-parallel=3",), "--fc-parallel 3 does not divide 1 process"),
        (("--schedule.warmup-epochs=2",), "--schedule.warmup-epochs 2 must be fewer than --schedule.epochs 2"),
        (("--weights=nowhere.pt",), "--weights nowhere.pt has no use: this experiment draws its weights"),
        (("--pretrained=features",), "begins with the weights of another network: pass --weights RUN_OR_FILE"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(train, tmp_path, flags, sentence):
    assert_refused(train(tmp_path / "run", *flags), sentence)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(train, tmp_path):
    assert_refused(train(tmp_path / "run", "--device=cuda"), "--device cuda: torch sees no GPU")


def test_a_user_at_the_shell_gets_the_same_sentence_and_code(stopped_run, shard_set):
    ended = run_command("train", "source-2012", "--data", str(shard_set.path), "--out", str(stopped_run), *SMALL_FLAGS)
    assert_refused(ended, f"--out {stopped_run} already exists: add --resume")
    assert ended.stdout == ""
