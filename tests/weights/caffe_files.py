"""Caffe's files written byte by byte, and bvlc_alexnet's layers as a graph of ONNX's own operators."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from commands import NUM_CLASSES
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from pipeline.artifacts import ShardSet
from pipeline.config import ExperimentConfig, ModelConfig
from pipeline.experiments import EXPERIMENTS
from pipeline.options import ImportConfig
from pipeline.train.imported import import_weights

SIDE, WIDTH = 227, 0.125
"""Of the input in pixels; of every layer, as a share of the real one."""


def build_caffe_model(*, width: float, num_classes: int) -> ModelConfig:
    return replace(EXPERIMENTS["caffe"].config.model, width=width, num_classes=num_classes)


def draw_blobs(width: float, num_classes: int) -> dict[str, list[np.ndarray]]:
    """Weights and biases of each layer as Caffe has them, large enough that every picture gets logits of its own."""
    generator = np.random.default_rng(5)
    kernels = [round(count * width) for count in (96, 256, 384, 384, 256, 4096, 4096)] + [num_classes]
    seen = [3, kernels[0] // 2, kernels[1], kernels[2] // 2, kernels[3] // 2, kernels[4] * 36, kernels[5], kernels[6]]
    sizes = (11, 5, 3, 3, 3)
    blobs = {}
    for index, (num, channels) in enumerate(zip(kernels, seen, strict=True)):
        shape = (num, channels, sizes[index], sizes[index]) if index < 5 else (num, channels)
        weights = generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        biases = generator.normal(0, 0.1, num)
        name = f"conv{index + 1}" if index < 5 else f"fc{index + 1}"
        blobs[name] = [weights.astype(np.float32), biases.astype(np.float32)]
    return blobs


def write_varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + write_varint(rest) if rest else bytes([low])


def write_field(number: int, content: bytes | int) -> bytes:
    """One field of the wire format: a number as such, all else with its length."""
    if isinstance(content, int):
        return write_varint(number << 3) + write_varint(content)
    return write_varint(number << 3 | 2) + write_varint(len(content)) + content


def write_blob(array: np.ndarray, *, old: bool) -> bytes:
    data = write_field(5, array.astype("<f4").tobytes())
    if old:
        four = (1,) * (4 - array.ndim) + array.shape
        return b"".join(write_field(number, size) for number, size in enumerate(four, start=1)) + data
    return data + write_field(7, write_field(1, b"".join(map(write_varint, array.shape))))


def write_caffemodel(path: Path, blobs: dict[str, list[np.ndarray]], *, old: bool) -> Path:
    """The layout of 2014 (`layers`, types by number, four dimensions) or the next; some layers have no weights."""
    content = write_field(1, b"AlexNet")
    for name, arrays in {"data": [], **blobs, "loss": []}.items():
        if old:
            kind = {"data": 5, "loss": 21}.get(name, 4 if name.startswith("conv") else 14)
            layer = write_field(2, b"bottom") + write_field(3, b"top") + write_field(4, name.encode())
            layer += write_field(5, kind) + b"".join(write_field(6, write_blob(array, old=True)) for array in arrays)
            content += write_field(2, layer)
        else:
            layer = write_field(1, name.encode()) + write_field(2, b"Convolution") + write_field(3, b"bottom")
            layer += b"".join(write_field(7, write_blob(array, old=False)) for array in arrays)
            content += write_field(100, layer)
    path.write_bytes(content)
    return path


def run_reference(blobs: dict[str, list[np.ndarray]], bgr: np.ndarray) -> np.ndarray:
    """Logits that onnxruntime's own convolution with groups, LRN, pooling and matrix product give.

    Args:
        blobs: as in Caffe's file.
        bgr: (N, 3, 227, 227) float32, blue first, the mean subtracted.
    """
    nodes, last = [], "data"

    def add(kind: str, *inputs: str, **attributes: object) -> None:
        nonlocal last
        nodes.append(helper.make_node(kind, [last, *inputs], [f"out{len(nodes)}"], **attributes))
        last = f"out{len(nodes) - 1}"

    for index, name in enumerate(blobs):
        if name == "fc6":
            add("Flatten")
        if name.startswith("fc"):
            add("Gemm", f"{name}_0", f"{name}_1", transB=1)
        else:
            pad, stride, group = (0, 2, 1, 1, 1)[index], 4 if index == 0 else 1, (1, 2, 1, 2, 2)[index]
            add("Conv", f"{name}_0", f"{name}_1", pads=[pad] * 4, strides=[stride] * 2, group=group)
        if name != "fc8":
            add("Relu")
        if index < 2:
            add("LRN", size=5, alpha=1e-4, beta=0.75, bias=1.0)
        if index in (0, 1, 4):
            add("MaxPool", kernel_shape=[3, 3], strides=[2, 2])
    values = [numpy_helper.from_array(array, f"{name}_{i}") for name in blobs for i, array in enumerate(blobs[name])]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, [None, 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info(last, TensorProto.FLOAT, [None, None])
    graph = helper.make_graph(nodes, "alexnet", [data], [logits], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"data": bgr})[0]


def build_caffe_config() -> ExperimentConfig:
    """The experiment `caffe` at an eighth of its width, for as many classes as the tests' pictures have."""
    model = build_caffe_model(width=WIDTH, num_classes=NUM_CLASSES)
    return replace(EXPERIMENTS["caffe"].config, model=model, global_batch_size=8)


def write_caffe_files(folder: Path) -> dict[str, Path]:
    """A model and a mean image that fit `build_caffe_config`, as arguments of `ImportConfig`."""
    mean = np.random.default_rng(2).uniform(90, 130, (1, 3, 256, 256)).astype(np.float32)
    (folder / "mean.binaryproto").write_bytes(write_blob(mean, old=True))
    file = write_caffemodel(folder / "bvlc_alexnet.caffemodel", draw_blobs(WIDTH, NUM_CLASSES), old=True)
    return {"file": file, "mean": folder / "mean.binaryproto"}


def make_caffe_run(shard_set: ShardSet, folder: Path) -> Path:
    """The run that these files become."""
    config = ImportConfig(**write_caffe_files(folder), data=shard_set.path, out=folder / "run")
    import_weights("caffe", build_caffe_config(), config)
    return folder / "run"


def read_val_pixels(shard_set: ShardSet, num: int) -> np.ndarray:
    """Centres of the first stored val pictures, decoded by Pillow: (N, 3, 227, 227) uint8."""
    split = shard_set.open_split("val")
    start = (256 - SIDE) // 2
    pictures = [np.asarray(Image.open(io.BytesIO(split.read(position).tobytes()))) for position in range(num)]
    return np.stack(pictures)[:, start : start + SIDE, start : start + SIDE].transpose(0, 3, 1, 2)
