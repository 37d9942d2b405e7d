"""Weights of any file that is known here, under this project's names, each of the shape that the network wants."""

import hashlib
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.artifacts import RunDirectory
from pipeline.checkpoint import find_checkpoints, read_checkpoint
from pipeline.config import ModelConfig
from pipeline.errors import InputError, check
from pipeline.model.alexnet import build_alexnet
from pipeline.weights.caffe import format_shape, read_caffe_arrays

MAX_NAMED = 4
TORCHVISION_NAMES = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "fc8",
}
"""Layers of torchvision's `alexnet`, which sees red first and whose fc6 reads map by map, as ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """What a file holds, and which file it was.

    `state` has float32 tensors by name, `conv1.weight` to `fc8.bias`, in the network's order; `path` is the file that
    was read, `sha256` its checksum; `kind` says in a word or two what wrote it.
    """

    path: Path
    sha256: str
    kind: str
    state: dict[str, Tensor]


def read_weights(path: Path, config: ModelConfig, *, input_pixels: int, head: bool = True) -> Weights:
    """Read weights for a network.

    Args:
        path: a `.caffemodel` of BVLC's AlexNet; a `.safetensors` or torch's file (`.pth`, `.pt`) with torchvision's
            names or ours; a checkpoint of ours; or a run directory, whose newest checkpoint is taken.
        config: the network. Every layer of it must be in the file, and nothing else.
        input_pixels: height and width of its input, which decide the inputs of the first fully connected layer.
        head: take the last layer, too; without it the file's, whatever its shape, is left out.

    Raises:
        InputError: the file is missing, damaged, of an unknown kind, or has other layers or shapes; the message names
            the first that differs.
    """
    if path.is_dir():
        checkpoints = find_checkpoints(RunDirectory(path).checkpoints)
        check(checkpoints, f"{path} has no checkpoint: pass a run directory in which an epoch has ended, or a file")
        path = checkpoints[-1]
    check(path.is_file(), f"{path} does not exist")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    kind, found = _read_file(path)
    state = _check_state(path, found, config, input_pixels=input_pixels, head=head)
    if kind == "Caffe" and config.in_channels == 3:
        first = f"{config.convs[0].name}.weight"
        state[first] = state[first].flip(1)  # Caffe's pictures come from OpenCV, blue first
    return Weights(path=path, sha256=sha256, kind=kind, state=state)


def _read_file(path: Path) -> tuple[str, Mapping[str, Tensor]]:
    """What wrote a file, and its tensors under our names."""
    match path.suffix.lower():
        case ".caffemodel":
            return "Caffe", {name: torch.from_numpy(array) for name, array in read_caffe_arrays(path).items()}
        case ".safetensors":
            try:
                return "safetensors", _rename(path, load_file(path))
            except SafetensorError as error:
                raise InputError(f"{path} is damaged, or no safetensors file ({error}): get it anew") from error
        case ".pt" | ".pth":
            held = _read_torch(path)
            if {"model", "draws_digest"} <= held.keys():
                return "checkpoint", read_checkpoint(path).model  # with its checksum proved
            return "torch", _rename(path, held)
    raise InputError(f"{path} is of an unknown kind: pass a .caffemodel, .safetensors, .pth, .pt or a run directory")


def _read_torch(path: Path) -> dict[str, Any]:
    advice = f"{path} is damaged, or no torch file of tensors alone (code in it is never run): save a state_dict"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that are refused a moment later
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make torch raise nearly anything
        raise InputError(advice) from error
    check(isinstance(held, dict) and all(isinstance(name, str) for name in held), advice)
    return dict(held)


def _rename(path: Path, held: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors under our names where they have torchvision's; others keep theirs."""
    strange = [name for name, value in held.items() if not isinstance(value, Tensor)]
    check(not strange, f"{path} holds more than tensors, such as {_list_names(strange[:1])}: pass a bare state_dict")
    renamed = {}
    for name, tensor in held.items():
        layer, _, part = name.rpartition(".")
        renamed[f"{TORCHVISION_NAMES[layer]}.{part}" if layer in TORCHVISION_NAMES else name] = tensor
    return renamed


def _check_state(
    path: Path, found: Mapping[str, Tensor], config: ModelConfig, *, input_pixels: int, head: bool
) -> dict[str, Tensor]:
    """The tensors that the network wants, in its order, once nothing is missing, left over or of another shape."""
    with torch.device("meta"):
        expected = build_alexnet(config, input_pixels=input_pixels, seed=None).state_dict()
    last = config.linears[-1].name
    wanted = [name for name in expected if head or name.rpartition(".")[0] != last]
    advice = "choose the experiment that it belongs to"
    for name in wanted:
        check(name in found, f"{path} has no {name}, only {_list_names(found)}: {advice}")
        shape, wanted_shape = tuple(found[name].shape), tuple(expected[name].shape)
        differs = f"{path} has {name} of {format_shape(shape)}, expected {format_shape(wanted_shape)}"
        is_head = name == f"{last}.weight" and shape[1:] == wanted_shape[1:]
        choice = (
            f"pass --model.num-classes {shape[0]}, or leave the last layer out (train: --pretrained features)"
            if is_head
            else advice
        )
        check(shape == wanted_shape, f"{differs}: {choice}")
        check(bool(found[name].isfinite().all()), f"{path} has NaN or infinity in {name}: get it anew")
    extra = [name for name in found if name not in expected]
    check(not extra, f"{path} has {_list_names(extra)}, which the network lacks: {advice}")
    return {name: found[name].float() for name in wanted}


def _list_names(names: Collection[str]) -> str:
    """Names for people, the first few of them."""
    return ", ".join([*names][:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")
