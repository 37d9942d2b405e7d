"""`alexnet weights import`: what others trained becomes a run that can be evaluated, and no row of the report."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from caffe_files import (
    SIDE,
    WIDTH,
    build_caffe_config,
    draw_blobs,
    make_caffe_run,
    read_val_pixels,
    write_caffe_files,
    write_caffemodel,
)

from pipeline import paper
from pipeline.artifacts import EvaluationRecord, RunDirectory, write_json
from pipeline.checkpoint import Identity, read_checkpoint, write_checkpoint
from pipeline.errors import InputError
from pipeline.evaluate.stage import evaluate
from pipeline.experiments import EXPERIMENTS
from pipeline.model.alexnet import build_alexnet
from pipeline.options import EvaluateConfig, ImportConfig, PackingConfig
from pipeline.report.answers import list_answers
from pipeline.report.measured import read_run
from pipeline.train.admission import check_run_directory
from pipeline.train.imported import import_weights
from pipeline.weights import read_weights

CAFFE = build_caffe_config()


@pytest.fixture(scope="module")
def imported(shard_set, tmp_path_factory) -> Path:
    """The run that Caffe's files become. Read only."""
    return make_caffe_run(shard_set, tmp_path_factory.mktemp("imported"))


@pytest.fixture(scope="module")
def caffe_files(tmp_path_factory) -> dict[str, Path]:
    return write_caffe_files(tmp_path_factory.mktemp("caffe"))


def test_an_imported_run_holds_the_files_weights_and_says_what_it_is(imported, caffe_files, shard_set):
    run = RunDirectory(imported)
    record, checkpoint = run.read_record(), read_checkpoint(run.checkpoints / "step-00000000.pt")
    weights = read_weights(caffe_files["file"], CAFFE.model, input_pixels=SIDE)
    assert (record.experiment, record.status, record.weights_digest) == ("caffe", "imported", weights.sha256)
    assert record.data_digest == checkpoint.data_digest == shard_set.info.digest
    assert (checkpoint.step, checkpoint.epoch, checkpoint.config) == (0, 0, CAFFE)
    for name, tensor in weights.state.items():
        assert torch.equal(checkpoint.model[name], tensor)


def test_no_claim_is_answered_by_an_imported_run(shard_set, caffe_files, tmp_path):
    config, sizes = EXPERIMENTS["source-2012"].config, paper.NUM_IMAGES["ILSVRC-2012"]
    import_weights("caffe", CAFFE, ImportConfig(**caffe_files, data=shard_set.path, out=tmp_path / "run"))
    run = RunDirectory(tmp_path / "run")
    record = run.read_record()
    write_json(
        run.config,
        dataclasses.replace(
            record,
            experiment="source-2012",
            config=config,
            data_complete=True,
            num_train_images=sizes["train"],
            num_val_images=sizes["val"],
            status="as registered",
            data_packing=PackingConfig(),
            starts=tuple(dataclasses.replace(start, dirty=False) for start in record.starts),
            weights=None,
        ),
    )
    found = EvaluationRecord(
        split="val",
        views="ten",
        step=0,
        epoch=config.schedule.epochs,
        num_images=sizes["val"],
        num_top1_errors=10,
        num_top5_errors=5,
        log_loss=1.0,
        data_digest=record.data_digest,
        commit="0123456789abcdef",
        dirty=False,
    )
    write_json(run.predictions / "trained.json", found)
    assert list_answered(run) == ["one-cnn-2012"]  # had it been trained for so long
    write_json(run.predictions / "trained.json", dataclasses.replace(found, epoch=0))
    assert list_answered(run) == []
    write_json(run.predictions / "trained.json", found)
    write_json(run.config, dataclasses.replace(run.read_record(), weights=record.weights))
    assert list_answered(run) == []
    write_json(run.config, dataclasses.replace(run.read_record(), weights=None, status=record.status))
    assert list_answered(run) == []


def list_answered(run: RunDirectory) -> list[str]:
    return [answer.claim.key for answer in list_answers([read_run(run.path)]) if answer.runs]


def test_an_imported_run_is_evaluated_with_the_mean_that_it_came_with(imported, shard_set, tmp_path):
    probabilities = {}
    for name in ("with", "without"):
        run = tmp_path / name
        shutil.copytree(imported, run)
        if name == "without":
            (run / "mean_image.npy").unlink()
        evaluate(EvaluateConfig(run=run, views=("center",), device="cpu", num_threads=1))
        with np.load(run / "predictions" / "val-center-step-0.npz") as arrays:
            probabilities[name] = arrays["probabilities"]
    assert np.abs(probabilities["with"] - probabilities["without"]).max() > 0.1
    network = build_alexnet(CAFFE.model, input_pixels=SIDE, seed=None).eval()
    network.load_state_dict(read_checkpoint(imported / "checkpoints" / "step-00000000.pt").model)
    place = slice((256 - SIDE) // 2, (256 - SIDE) // 2 + SIDE)
    pixels = read_val_pixels(shard_set, 4) - np.load(imported / "mean_image.npy")[place, place].transpose(2, 0, 1)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).softmax(1).numpy()
    np.testing.assert_allclose(probabilities["with"][:4], expected, atol=1e-3)


def test_training_cannot_be_resumed_where_there_was_none(imported, shard_set):
    wanted = Identity(experiment="caffe", config=CAFFE, data_digest=shard_set.info.digest)
    with pytest.raises(InputError, match=r"run holds weights that were imported, and no training to go on with"):
        check_run_directory(RunDirectory(imported), wanted, resume=True)


def test_what_does_not_fit_leaves_no_run_behind(caffe_files, shard_set, few_set, tmp_path):
    out = tmp_path / "run"
    five = dataclasses.replace(CAFFE, model=dataclasses.replace(CAFFE.model, num_classes=5))
    options = ImportConfig(**caffe_files, data=shard_set.path, out=out)
    with pytest.raises(InputError, match=r"has 4 classes and the network 5 outputs"):
        import_weights("caffe", five, options)
    channel = dataclasses.replace(CAFFE, augment=dataclasses.replace(CAFFE.augment, mean="channel"))
    with pytest.raises(InputError, match=r"mean.binaryproto has no use: with --augment.mean channel"):
        import_weights("caffe", channel, options)
    three = dataclasses.replace(CAFFE, model=dataclasses.replace(CAFFE.model, num_classes=3))
    small = dataclasses.replace(options, data=few_set.path)
    with pytest.raises(InputError, match=r"has fc8.weight of 4x512, expected 3x512"):
        import_weights("caffe", three, small)
    write_caffemodel(tmp_path / "three.caffemodel", draw_blobs(WIDTH, 3), old=False)
    with pytest.raises(InputError, match=r"mean.binaryproto is 256x256, and the pictures in .* are 32x32"):
        import_weights("caffe", three, dataclasses.replace(small, file=tmp_path / "three.caffemodel"))
    assert not out.exists()
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"already exists and holds no run"):
        import_weights("caffe", CAFFE, options)


def copy_run(run: Path, out: Path, **changes: object) -> Path:
    """A run of its own with a second checkpoint that differs in `changes`; returns that."""
    (out / "checkpoints").mkdir(parents=True)
    (out / "config.json").write_bytes((run / "config.json").read_bytes())
    checkpoint = read_checkpoint(run / "checkpoints" / "step-00000000.pt")
    write_checkpoint(out / "checkpoints", checkpoint, keep=2)
    return write_checkpoint(out / "checkpoints", dataclasses.replace(checkpoint, step=6, **changes), keep=2)


def test_a_run_directory_gives_its_newest_checkpoint(imported, tmp_path):
    model = dict(read_checkpoint(imported / "checkpoints" / "step-00000000.pt").model)
    model["fc8.bias"] = model["fc8.bias"] + 1
    newest = copy_run(imported, tmp_path / "run", model=model)
    found = read_weights(tmp_path / "run", CAFFE.model, input_pixels=SIDE)
    assert (found.path, found.kind) == (newest, "checkpoint")
    for name, tensor in model.items():
        assert torch.equal(found.state[name], tensor)
    older = read_weights(newest.with_name("step-00000000.pt"), CAFFE.model, input_pixels=SIDE)
    assert torch.equal(older.state["fc8.bias"] + 1, model["fc8.bias"])


def test_a_checkpoint_with_a_flipped_bit_is_refused(imported, tmp_path):
    newest = copy_run(imported, tmp_path / "run")
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    for path in (newest, tmp_path / "run"):
        with pytest.raises(InputError, match=r"step-00000006.pt is damaged"):
            read_weights(path, CAFFE.model, input_pixels=SIDE)
