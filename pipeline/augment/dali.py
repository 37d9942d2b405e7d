"""The DALI graph, one for training and evaluation, CPU and GPU. Nothing else imports DALI.

Everything random comes in from outside as a function of (seed, epoch, picture), so the graph itself draws nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from nvidia.dali import Pipeline, fn, types
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipeline.augment.geometry import View


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """What was drawn for the N pictures of one training batch.

    `starts` (N, 2) int32 top and left in pixels; `mirrors` (N,) int32 of 0 and 1; `shifts` (N, 3) float32 added to the
    pixels on the 0-255 scale; `divisors` (N, 3) float32 applied last.
    """

    starts: npt.NDArray[np.int32]
    mirrors: npt.NDArray[np.int32]
    shifts: npt.NDArray[np.float32]
    divisors: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedViews:
    """The same patches of every picture, without any shift, divided by `divisor`."""

    views: tuple[View, ...]
    divisor: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """What the graph does to a batch.

    Args:
        mean_image: (side, side, 3) float32, 0-255.
        mean: the part of it that is subtracted: its centre, or what lies under the patch.
        crop_pixels: side of a patch.
        fixed: patches of every picture; None takes one patch per picture, where its draws say.
        raw: samples are pixels, which need no decoding.
    """

    mean_image: npt.NDArray[np.float32]
    mean: Literal["centered", "cropped"]
    crop_pixels: int
    fixed: FixedViews | None = None
    raw: bool = False


Samples = tuple[Sequence[npt.NDArray[np.uint8]], Draws | None]
"""One batch on its way into the graph: N arrays of encoded bytes, or of (side, side, 3) pixels; and their draws, unless
the views are fixed."""


class BatchStream:
    """Runs a graph over batches that a function hands out by number, again and again."""

    def __init__(
        self,
        graph: Graph,
        read_batch: Callable[[int], Samples],
        *,
        batch_size: int,
        num_threads: int,
        device: torch.device,
    ) -> None:
        """Build the pipeline.

        Args:
            graph: what to do.
            read_batch: batch by number, from 0; at most `batch_size` samples.
            batch_size: largest batch.
            num_threads: threads that decode and augment.
            device: CUDA decodes and augments on that GPU.
        """
        self._device = device
        self._num_batches = 0
        self._read_batch = read_batch
        self._pipeline = Pipeline(
            batch_size=batch_size,
            num_threads=num_threads,
            device_id=device.index if device.type == "cuda" else None,
            prefetch_queue_depth=2,
            exec_dynamic=True,
        )
        with self._pipeline:
            self._pipeline.set_outputs(_build_graph(graph, self._feed, on_gpu=device.type == "cuda"))
        self._pipeline.build()
        self._is_reset = True

    def _feed(self, number: int) -> tuple[Any, ...]:
        if number >= self._num_batches:
            raise StopIteration
        encoded, draws = self._read_batch(number)
        if draws is None:
            return (list(encoded),)
        return list(encoded), list(draws.starts), list(draws.mirrors), list(draws.shifts), list(draws.divisors)

    def run(self, num_batches: int) -> Iterator[Tensor]:
        """Yield `num_batches` batches from 0 on: float32 (N, 3, crop, crop) or (N, views, 3, crop, crop)."""
        self._drain()
        self._num_batches, self._is_reset = num_batches, False
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        while True:
            try:
                (output,) = self._pipeline.run(stream)
            except StopIteration:
                self._reset()
                return
            yield from_dlpack(output.as_tensor())

    def _reset(self) -> None:
        self._pipeline.reset()
        self._is_reset = True

    def _drain(self) -> None:
        """Throw away what was prefetched for an earlier run that nobody followed to its end."""
        self._num_batches = 0
        while not self._is_reset:
            try:
                self._pipeline.run()
            except StopIteration:
                self._reset()


def _build_graph(graph: Graph, feed: Callable[[int], tuple[Any, ...]], *, on_gpu: bool) -> Any:
    device = "gpu" if on_gpu else "cpu"
    patch = [graph.crop_pixels, graph.crop_pixels]
    middle = (graph.mean_image.shape[0] - graph.crop_pixels) // 2
    decoding = {
        "device": "mixed" if on_gpu else "cpu",
        "output_type": types.RGB,
        "adjust_orientation": False,  # preprocessing decided the orientation once
    }

    def cut_mean(top: int, left: int) -> Any:
        mean = graph.mean_image[top : top + graph.crop_pixels, left : left + graph.crop_pixels]
        return types.Constant(mean, device=device)

    if graph.fixed is None:
        encoded, start, mirror, shift, divisor = fn.external_source(
            source=feed,
            num_outputs=5,
            batch=True,
            dtype=[types.UINT8, types.INT32, types.INT32, types.FLOAT, types.FLOAT],
            ndim=[3 if graph.raw else 1, 1, 0, 1, 1],
        )
        if graph.raw:
            images = _move(fn.slice(encoded, start=start, shape=patch, axes=[0, 1]), device)
        else:
            images = fn.decoders.image_slice(encoded, start=start, shape=patch, axis_names="HW", **decoding)
        mean = cut_mean(middle, middle)
        if graph.mean == "cropped":
            whole_mean = types.Constant(graph.mean_image, device=device)
            mean = fn.slice(whole_mean, start=start, shape=patch, axes=[0, 1])
        return _finish(images - mean, mirror=mirror, mean=-shift, std=divisor)

    ndim = [3 if graph.raw else 1]
    (encoded,) = fn.external_source(source=feed, num_outputs=1, batch=True, dtype=[types.UINT8], ndim=ndim)
    images = _move(encoded, device) if graph.raw else fn.decoders.image(encoded, **decoding)
    patches = []
    for view in graph.fixed.views:
        top, left = (middle, middle) if graph.mean == "centered" else (view.top, view.left)
        cut = fn.slice(images, start=[view.top, view.left], shape=patch, axes=[0, 1])
        patches.append(_finish(cut - cut_mean(top, left), mirror=int(view.mirror), std=[graph.fixed.divisor] * 3))
    return fn.stack(*patches)


def _move(images: Any, device: str) -> Any:
    return images.gpu() if device == "gpu" else images


def _finish(images: Any, **normalization: Any) -> Any:
    """Shift (minus the operator's mean), divide, mirror, transpose and cast in one operator."""
    return fn.crop_mirror_normalize(images, output_layout="CHW", dtype=types.FLOAT, **normalization)
