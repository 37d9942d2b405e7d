"""`alexnet weights export`: the same logits from the pixels alone, the same weights bit by bit, and their origin."""

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from caffe_files import SIDE, build_caffe_config, make_caffe_run, read_val_pixels
from commands import NUM_CLASSES
from safetensors import safe_open
from torch import nn

from pipeline.artifacts import EvaluationRecord, RunDirectory, read_json, write_json
from pipeline.checkpoint import name_checkpoint, read_checkpoint, write_checkpoint
from pipeline.errors import InputError, RunError
from pipeline.experiments import EXPERIMENTS
from pipeline.model.alexnet import build_alexnet
from pipeline.options import ExportConfig, ImportConfig
from pipeline.train.imported import import_weights
from pipeline.weights import onnx_file, read_weights
from pipeline.weights.export import export_weights
from pipeline.weights.pixels import build_from_pixels

CAFFE = build_caffe_config()


@pytest.fixture(scope="module")
def imported(shard_set, tmp_path_factory) -> Path:
    """The run that Caffe's files become. Read only."""
    return make_caffe_run(shard_set, tmp_path_factory.mktemp("imported"))


@pytest.fixture(scope="module")
def exported(imported, tmp_path_factory) -> tuple[Path, str]:
    """The imported run as ONNX, and what was printed. Read only."""
    out = tmp_path_factory.mktemp("exported") / "caffe.onnx"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        export_weights(ExportConfig(run=imported, out=out))
    return out, printed.getvalue()


def test_an_onnx_file_takes_pixels_of_any_number_and_subtracts_the_mean_itself(exported, imported, shard_set):
    pixels = read_val_pixels(shard_set, 5)
    session = onnxruntime.InferenceSession(exported[0], providers=["CPUExecutionProvider"])
    start = (256 - SIDE) // 2
    mean = np.load(imported / "mean_image.npy")[start : start + SIDE, start : start + SIDE].transpose(2, 0, 1)
    network = build_alexnet(CAFFE.model, input_pixels=SIDE, seed=None).eval()
    network.load_state_dict(read_checkpoint(imported / "checkpoints" / "step-00000000.pt").model)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels - mean)).numpy()
    for num in (1, 5):
        (found,) = session.run(None, {"pixels": pixels[:num].astype(np.float32)})
        assert np.abs(found - expected[:num]).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(expected - expected[0]).max() > 0.1 * np.abs(expected).max()


def test_the_metadata_say_all_that_a_stranger_needs(exported, shard_set, imported):
    path, printed = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert [(entry.name, entry.type, entry.shape[1:]) for entry in session.get_inputs()] == [
        ("pixels", "tensor(float)", [3, SIDE, SIDE])
    ]
    assert [entry.name for entry in session.get_outputs()] == ["logits"]
    preprocessing = json.loads(about["preprocessing"])
    assert (preprocessing["crop_pixels"], preprocessing["channel_order"]) == (SIDE, "RGB")
    assert preprocessing["pixel_range"] == [0, 255]
    assert preprocessing["in_the_graph"] == {
        "channels": "RGB",
        "subtracted": "the mean image's centre",
        "divided_by": 1.0,
    }
    assert [entry["id"] for entry in json.loads(about["classes"])] == [entry.id for entry in shard_set.info.classes]
    assert (about["experiment"], about["status"], about["step"], about["epoch"]) == ("caffe", "imported", "0", "0")
    assert about["data_digest"] == shard_set.info.digest
    assert json.loads(about["config"])["augment"]["crop_pixels"] == SIDE
    (start,) = RunDirectory(imported).read_record().starts
    assert json.loads(about["commits"]) == [start.format_commit()]
    assert "whose logits differ from torch's by" in printed
    assert float(printed.split("differ from torch's by ")[1].split()[0]) < 1e-5


def test_no_path_of_this_machine_is_in_an_onnx_file(exported):
    content = exported[0].read_bytes()
    assert b'File "' not in content
    assert str(Path(__file__).parents[2]).encode() not in content


def test_a_file_whose_logits_differ_is_not_written(exported, imported, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(imported, run)
    checkpoint = read_checkpoint(run / "checkpoints" / "step-00000000.pt")
    shifted = checkpoint.model | {"fc8.bias": checkpoint.model["fc8.bias"] + 1}
    write_checkpoint(run / "checkpoints", dataclasses.replace(checkpoint, model=shifted), keep=1)
    monkeypatch.setattr(onnx_file, "build_onnx", lambda *_: exported[0].read_bytes())  # of the weights before
    with pytest.raises(RunError, match=r"was not written: onnxruntime's logits differ from torch's by \S+ of the"):
        export_weights(ExportConfig(run=run, out=tmp_path / "caffe.onnx"))
    assert list(tmp_path.iterdir()) == [run]


def test_luminance_and_enlarged_pictures_are_as_evaluation_makes_them(few_set, tmp_path):
    registered = EXPERIMENTS["tutorial-d2l-28"].config
    augment = dataclasses.replace(
        registered.augment,
        crop="center",
        crop_pixels=24,
        resize_pixels=28,
        gray=True,
        mean="centered",
        pixel_scale=50.0,
    )
    model = dataclasses.replace(registered.model, num_classes=3, width=0.0625)
    config = dataclasses.replace(registered, augment=augment, model=model)
    torch.save(build_alexnet(model, input_pixels=28, seed=1).state_dict(), tmp_path / "drawn.pt")
    options = ImportConfig(file=tmp_path / "drawn.pt", data=few_set.path, out=tmp_path / "run")
    import_weights("tutorial-d2l-28", config, options)
    export_weights(ExportConfig(run=options.out, out=tmp_path / "gray.onnx"))  # refused if DALI made other pictures
    session = onnxruntime.InferenceSession(tmp_path / "gray.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [3, 28, 28]
    preprocessing = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    assert preprocessing["in_the_graph"]["channels"] == "luminance (ITU-R BT.601)"


def test_channel_means_and_deviations_are_applied_before_the_network(few_set):
    augment = dataclasses.replace(EXPERIMENTS["one-weird-trick"].config.augment, crop_pixels=24)
    pixels = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1)) * 255
    found = build_from_pixels(nn.Identity(), augment, few_set)(pixels).numpy()
    for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        expected = (pixels[:, channel].numpy() / 255 - mean) / std
        np.testing.assert_allclose(found[:, channel], expected, atol=1e-5)


def test_safetensors_come_back_bit_by_bit_with_their_origin(imported, shard_set, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_bytes((imported / "config.json").read_bytes())
    checkpoint = read_checkpoint(imported / "checkpoints" / "step-00000000.pt")
    write_checkpoint(run / "checkpoints", dataclasses.replace(checkpoint, step=6), keep=2)
    measured = EvaluationRecord(
        split="val",
        views="ten",
        step=6,
        epoch=1,
        num_images=20,
        num_top1_errors=8,
        num_top5_errors=1,
        log_loss=1.5,
        data_digest=shard_set.info.digest,
        commit="0123456789abcdef",
        dirty=False,
    )
    write_json(run / "predictions" / "val-ten-step-6.json", measured)
    out = tmp_path / "shared.safetensors"
    export_weights(ExportConfig(run=run, out=out))
    found = read_weights(out, CAFFE.model, input_pixels=SIDE)
    for name, tensor in checkpoint.model.items():
        assert torch.equal(found.state[name], tensor)
    with safe_open(out, framework="pt") as file:
        about = file.metadata()
    assert (about["experiment"], about["step"], about["data_digest"]) == ("caffe", "6", shard_set.info.digest)
    (evaluation,) = json.loads(about["evaluations"])
    assert (evaluation["views"], evaluation["num_top1_errors"]) == ("ten", 8)
    (tmp_path / "config.json").write_text(about["config"])
    assert read_json(tmp_path / "config.json", type(CAFFE)) == CAFFE


def test_the_best_checkpoint_and_one_by_path_can_be_chosen(imported, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_bytes((imported / "config.json").read_bytes())
    first = read_checkpoint(imported / "checkpoints" / "step-00000000.pt")
    per_epoch = first.steps_per_epoch
    for epoch in (1, 2, 3):
        model = first.model | {"fc8.bias": torch.full((NUM_CLASSES,), float(epoch))}
        evaluations = tuple((number, (0.5, 0.3, 0.4)[number - 1]) for number in range(1, epoch + 1))
        later = dataclasses.replace(first, step=epoch * per_epoch, model=model, evaluations=evaluations)
        write_checkpoint(run / "checkpoints", later, keep=3)
    oldest = name_checkpoint(run / "checkpoints", per_epoch)
    for choice, expected in (("last", 3), ("best", 2), (oldest, 1)):
        out = tmp_path / f"{expected}.safetensors"
        export_weights(ExportConfig(run=run, out=out, checkpoint=choice))
        assert read_weights(out, CAFFE.model, input_pixels=SIDE).state["fc8.bias"][0] == expected
    other = dataclasses.replace(first, data_digest="0" * 64)
    path = write_checkpoint(tmp_path, other, keep=1)
    with pytest.raises(InputError, match=r"step-00000000.pt was trained on the shard set 000000000000, not on"):
        export_weights(ExportConfig(run=run, out=tmp_path / "other.safetensors", checkpoint=path))


def test_what_cannot_be_exported_is_one_sentence(imported, few_set, tmp_path):
    out = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match=r"absent.pt does not exist"):
        export_weights(ExportConfig(run=imported, out=out, checkpoint=tmp_path / "absent.pt"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_bytes((imported / "config.json").read_bytes())
    with pytest.raises(InputError, match=r"empty/checkpoints holds no checkpoint yet"):
        export_weights(ExportConfig(run=tmp_path / "empty", out=out))
    with pytest.raises(InputError, match=r"few_set\d+/set is not the shard set that .*run was trained on"):
        export_weights(ExportConfig(run=imported, out=tmp_path / "a.onnx", data=few_set.path))
    with pytest.raises(InputError, match=r"a\.pt must end in \.onnx or \.safetensors"):
        ExportConfig(run=imported, out=tmp_path / "a.pt")
    out.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"a\.safetensors already exists"):
        export_weights(ExportConfig(run=imported, out=out))
    assert out.read_bytes() == b"mine"
