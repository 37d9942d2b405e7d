"""Weights of torchvision and of safetensors: the same numbers, or one sentence."""

import dataclasses
import hashlib
import io
import os
import pickle
import random
import warnings

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from pipeline.errors import InputError
from pipeline.experiments import EXPERIMENTS
from pipeline.model.alexnet import build_alexnet
from pipeline.weights.reading import Weights, read_weights

SIDE, NUM_CLASSES = 224, 10
MODEL = dataclasses.replace(EXPERIMENTS["one-weird-trick"].config.model, num_classes=NUM_CLASSES, width=0.125)


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = torchvision.models.alexnet(num_classes=NUM_CLASSES).eval()
    for parameter in network.parameters():  # so that every picture gets logits of its own
        parameter.data *= 2.5 if parameter.ndim > 1 else 1
    return network


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Weights of torchvision's layers at an eighth of their width, under our names."""
    return dict(build_alexnet(MODEL, input_pixels=SIDE, seed=3).state_dict())


@pytest.fixture
def file(state, tmp_path):
    path = tmp_path / "state.pth"
    torch.save(state, path)
    return path


def save(held, path) -> None:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(held, path)
    else:
        torch.save(held, path)


def read(path, *, head: bool = True, model=MODEL) -> Weights:
    return read_weights(path, model, input_pixels=SIDE, head=head)


def assert_refused(path, *parts: str, head: bool = True, model=MODEL) -> None:
    with pytest.raises(InputError) as refused:
        read(path, head=head, model=model)
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize("name", ["one-weird-trick", "finetune"])
def test_torchvisions_weights_give_torchvisions_logits(name, theirs, tmp_path):
    path = tmp_path / "alexnet.pth"
    torch.save(theirs.state_dict(), path)
    config = EXPERIMENTS[name].config
    model = dataclasses.replace(config.model, num_classes=NUM_CLASSES)
    weights = read_weights(path, model, input_pixels=config.augment.input_pixels)
    network = build_alexnet(model, input_pixels=SIDE, seed=0).eval()
    network.load_state_dict(weights.state)
    images = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        ours, expected = network(images), theirs(images)
    assert expected.std(0).min() > 1e-3
    assert torch.equal(ours, expected)
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (weights.kind, weights.path) == ("torch", path)


def test_the_old_format_of_torch_is_read_too(state, tmp_path):
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read(path).state["fc8.weight"], state["fc8.weight"])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_names_may_be_torchvisions_or_ours(suffix, state, tmp_path):
    with torch.device("meta"):
        names = torchvision.models.alexnet().state_dict()
    theirs = dict(zip(names, state.values(), strict=True))
    for held in (state, theirs):
        save(held, tmp_path / f"weights{suffix}")
        found = read(tmp_path / f"weights{suffix}").state
        assert list(found) == list(state)
        for name, tensor in state.items():
            assert torch.equal(found[name], tensor)


def test_half_precision_becomes_float32(state, tmp_path):
    half = {name: tensor.half() for name, tensor in state.items()}
    torch.save(half, tmp_path / "half.pt")
    found = read(tmp_path / "half.pt").state["fc7.weight"]
    assert found.dtype == torch.float32
    assert torch.equal(found, half["fc7.weight"].float())


def test_another_networks_weights_are_refused(file, small_config):
    assert_refused(file, "has conv1.weight of 8x3x11x11, expected 12x3x11x11: choose", model=small_config.model)


def test_the_head_is_refused_or_left_out_where_classes_differ(file, state):
    two = dataclasses.replace(MODEL, num_classes=2)
    advice = "pass --model.num-classes 10, or leave the last layer out (train: --pretrained features)"
    assert_refused(file, f"has fc8.weight of 10x512, expected 2x512: {advice}", model=two)
    found = read(file, head=False, model=two).state
    assert [name for name in state if name not in found] == ["fc8.weight", "fc8.bias"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_missing_layer_an_unknown_one_and_nan_are_named(suffix, state, tmp_path):
    path = tmp_path / f"weights{suffix}"
    save({name: tensor for name, tensor in state.items() if name != "conv4.bias"}, path)
    assert_refused(path, "has no conv4.bias, only conv1.", "and 11 more: choose the experiment")
    save(state | {"conv6.weight": torch.zeros(1)}, path)
    assert_refused(path, "has conv6.weight, which the network lacks")
    save(state | {"fc7.bias": torch.full((512,), torch.nan)}, path)
    assert_refused(path, "has NaN or infinity in fc7.bias")


class RunsWhenLoaded:
    """A pickle of it starts a command."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_code_in_a_pickle_is_refused_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, held in enumerate([nn.Linear(2, 2), {"features.0.weight": RunsWhenLoaded()}, RunsWhenLoaded()]):
        path = tmp_path / f"{number}.pth"
        torch.save(held, path)
        assert_refused(path, "is damaged, or no torch file of tensors alone (code in it is never run)")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(RunsWhenLoaded()))
    with warnings.catch_warnings(record=True) as said:
        assert_refused(tmp_path / "bare.pth", "is damaged, or no torch file of tensors alone")
    assert not said
    assert not (tmp_path / "harmed").exists()


def cut_to(share: float):
    return lambda content: content[: int(len(content) * share)]


DAMAGES = {
    "empty": lambda _: b"",
    "html": lambda _: b"<html>moved permanently</html>",
    "noise": lambda _: random.Random(0).randbytes(1000),
    "zeros": lambda _: bytes(1000),
    "cut to half": cut_to(0.5),
    "cut to a hundredth": cut_to(0.01),
    "last byte gone": lambda content: content[:-1],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_one_sentence(suffix, damage, tmp_path):
    state = {"conv1.weight": torch.zeros(64, 3, 11, 11)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(damage(buffer.getvalue() if suffix == ".pth" else safetensors.torch.save(state)))
    assert_refused(path, "is damaged, or no")


def test_what_is_no_state_dict_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save([torch.zeros(3)], path)
    assert_refused(path, "is damaged, or no torch file of tensors alone")
    torch.save({"state_dict": {"conv1.weight": torch.zeros(3)}, "epoch": 3}, path)
    assert_refused(path, "holds more than tensors, such as state_dict: pass a bare state_dict")


def test_files_of_other_kinds_and_missing_ones_are_refused(tmp_path):
    assert_refused(tmp_path / "absent.pth", "does not exist")
    (tmp_path / "weights.h5").write_bytes(b"1")
    assert_refused(
        tmp_path / "weights.h5", "is of an unknown kind: pass a .caffemodel, .safetensors, .pth, .pt or a run"
    )
    assert_refused(tmp_path, "has no checkpoint")
