"""A network as an ONNX file that takes pixels, written only if onnxruntime gives what torch gives."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor
from torch.export import Dim

from pipeline.artifacts import ShardSet, write_bytes
from pipeline.augment.loader import EvaluationLoader
from pipeline.config import AugmentConfig
from pipeline.distributed import World
from pipeline.errors import RunError
from pipeline.options import LoadingConfig
from pipeline.weights.pixels import FromPixels

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest logit; rounding alone stays about a hundred times below."""
NUM_CHECKED = 16
"""Pictures on which the file is compared."""


def write_onnx(
    path: Path, network: FromPixels, config: AugmentConfig, shard_set: ShardSet, about: Mapping[str, str]
) -> float:
    """Write a network for any number of crops: `pixels` (N, 3, H, W) float32 to `logits` (N, classes) float32.

    It is compared with what evaluation computes from the same pictures, its own preprocessing included.

    Args:
        path: file to write, whole or not at all.
        network: in evaluation mode, on the CPU.
        config: the augmentation that evaluation uses.
        shard_set: whose first validation pictures are compared.
        about: what the file's metadata say, by key.

    Returns:
        The largest difference between two logits, as a share of the largest logit.

    Raises:
        RunError: the difference is above `TOLERANCE`; no file is left.
    """
    content = build_onnx(network, config.input_pixels, about)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    plain = replace(config, mean="none", pixel_scale=1.0, color_scale="none", gray=False)
    (found,) = session.run(["logits"], {"pixels": _read_batch(shard_set, plain).numpy()})
    with torch.inference_mode():
        expected = network.network(_read_batch(shard_set, config))
    difference = float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:  # nor may it be NaN
        raise RunError(
            f"{path} was not written: onnxruntime's logits differ from torch's by {difference:.1e} of the largest, "
            f"expected at most {TOLERANCE:.0e}"
        )
    write_bytes(path, content)
    return difference


def build_onnx(network: FromPixels, input_pixels: int, about: Mapping[str, str]) -> bytes:
    """The file's content."""
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 3, input_pixels, input_pixels),),
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes={"pixels": {0: Dim("N")}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    program.model.metadata_props.update(about)
    content: bytes = program.model_proto.SerializeToString()
    return content


def _read_batch(shard_set: ShardSet, config: AugmentConfig) -> Tensor:
    """The first pictures of val as `config` prepares them for the network: (N, C, H, W) float32."""
    world = World(rank=0, local_rank=0, world_size=1, device=torch.device("cpu"))
    loader = EvaluationLoader(
        shard_set, config, "val", "center", batch_size=NUM_CHECKED, world=world, loading=LoadingConfig()
    )
    return next(loader.run()).images.flatten(0, 1)
