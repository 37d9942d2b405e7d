"""Caffe's files: the arrays of a `.caffemodel`, and the mean image of a `.binaryproto`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pipeline.errors import InputError, check

Field = descriptor_pb2.FieldDescriptorProto
SCHEMA: dict[str, tuple[tuple[str, int, str], ...]] = {
    "BlobShape": (("dim", 1, "int64*"),),
    "BlobProto": (
        ("num", 1, "int64"),
        ("channels", 2, "int64"),
        ("height", 3, "int64"),
        ("width", 4, "int64"),
        ("data", 5, "bytes"),
        ("shape", 7, "BlobShape"),
    ),
    "V1LayerParameter": (("name", 4, "string"), ("blobs", 6, "BlobProto*")),
    "LayerParameter": (("name", 1, "string"), ("blobs", 7, "BlobProto*")),
    "NetParameter": (("layers", 2, "V1LayerParameter*"), ("layer", 100, "LayerParameter*")),
}
"""Messages of Caffe's caffe.proto as far as weights go, with name, number and type of each field, starred if repeated.

`data` is a packed field of floats, which lies in a file just as bytes do: read as such, 61 million need no loop.
"""


def format_shape(shape: Sequence[int]) -> str:
    """A shape for people, such as 96x3x11x11."""
    return "x".join(map(str, shape))


def build_message(name: str) -> Any:
    """An empty message of `SCHEMA`."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe_weights.proto", package="caffe", syntax="proto2")
    for message, fields in SCHEMA.items():
        described = file.message_type.add(name=message)
        for field, number, kind in fields:
            plain = kind.removesuffix("*")
            described.field.add(
                name=field,
                number=number,
                label=Field.LABEL_OPTIONAL if kind == plain else Field.LABEL_REPEATED,
                type=Field.TYPE_MESSAGE if plain in SCHEMA else Field.Type.Value(f"TYPE_{plain.upper()}"),
                type_name=f".caffe.{plain}" if plain in SCHEMA else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))()


def _parse(path: Path, name: str) -> Any:
    check(path.is_file(), f"{path} does not exist")
    message = build_message(name)
    try:
        message.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path} is damaged, or no file that Caffe wrote ({error}): get it anew") from error
    return message


def read_caffe_arrays(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Read the weights and biases of a `.caffemodel`, of the layout of 2014 (V1, as bvlc_alexnet's) or the later one.

    Returns:
        `LAYER.weight`, (kernels, channels, height, width) or (outputs, inputs), and `LAYER.bias`, float32 as in the
        file: the first layer's channels are those that Caffe sees, blue first.

    Raises:
        InputError: the file is missing, damaged, or no such model.
    """
    net = _parse(path, "NetParameter")
    arrays = {}
    for layer in (*net.layers, *net.layer):
        for part, blob in zip(("weight", "bias"), layer.blobs, strict=False):
            name = f"{layer.name}.{part}"
            array = _read_blob(blob, f"{path}: {name}")
            is_linear = part == "weight" and array.ndim == 4 and array.shape[:2] == (1, 1)
            # Before it had shapes, Caffe kept all in four dimensions, of which a matrix takes the last two.
            arrays[name] = array.reshape(-1) if part == "bias" else array[0, 0] if is_linear else array
    check(arrays, f"{path} has no layer with weights: pass a .caffemodel as Caffe's training writes it")
    return arrays


def _read_blob(blob: Any, name: str) -> npt.NDArray[np.float32]:
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    check(
        len(blob.data) == 4 * math.prod(shape) and min(shape, default=1) > 0,
        f"{name} holds {len(blob.data)} bytes, which are no {format_shape(shape)} float32 numbers: get the file anew",
    )
    return np.frombuffer(blob.data, "<f4").reshape(shape).astype(np.float32)


def read_caffe_mean(path: Path) -> npt.NDArray[np.float32]:
    """Read a mean image such as `imagenet_mean.binaryproto`.

    It takes the place of the shard set's mean image where imported weights are evaluated, and is used alike: what is
    subtracted from a crop is the mean's part at the same place (`--augment.mean cropped`, as Caffe does).

    Returns:
        (side, side, 3) float32, 0-255, red first; 256 x 256 for ImageNet.

    Raises:
        InputError: the file is missing, damaged, or no picture of three channels.
    """
    blob = _read_blob(_parse(path, "BlobProto"), str(path))
    channels, height, width = blob.shape[-3:] if blob.ndim > 2 else (0, 0, 0)
    check(
        (channels, height) == (3, width) and blob.size == 3 * height * width,
        f"{path} holds an array of {format_shape(blob.shape)}, expected one mean image of 1x3xSIDExSIDE: "
        "pass Caffe's imagenet_mean.binaryproto or the like",
    )
    return np.ascontiguousarray(blob.reshape(3, height, width)[::-1].transpose(1, 2, 0))
