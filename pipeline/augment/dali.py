"""The DALI graph, one for training and evaluation, CPU and GPU. Nothing else of the pipeline imports DALI.

Everything random comes in from outside as a function of (seed, epoch, picture), so the graph itself draws nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nvidia.dali import Pipeline, fn, types
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipeline import paper
from pipeline.augment.draws import Draws
from pipeline.augment.geometry import View
from pipeline.config import AugmentConfig
from pipeline.options import LoadingConfig

PREFETCH_DEPTH = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedViews:
    """The same patches of every picture, whose pixels get `offset` (C,) added and are divided by `divisor` (C,)."""

    views: tuple[View, ...]
    offset: npt.NDArray[np.float32]
    divisor: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """What the graph does to a batch.

    Args:
        config: the augmentation.
        mean_image: (side, side, 3) float32, 0-255.
        raw: samples are pixels, which need no decoding.
        fixed: patches of every picture; None takes one patch per picture, where its draws say.
        dtype: of the batches; float32, float16 or bfloat16.
        channels_last: memory format of the batches.
    """

    config: AugmentConfig
    mean_image: npt.NDArray[np.float32]
    raw: bool
    fixed: FixedViews | None = None
    dtype: torch.dtype = torch.float32
    channels_last: bool = False


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
        loading: LoadingConfig,
        device: torch.device,
    ) -> None:
        """Build the pipeline.

        Args:
            graph: what to do.
            read_batch: batch by number; at most `batch_size` samples.
            batch_size: largest batch.
            loading: threads and decoder.
            device: where the batches are wanted; on CUDA the float work is done there, too.
        """
        self._graph, self._read_batch = graph, read_batch
        self._batch_size, self._loading, self._device = batch_size, loading, device
        self._build()

    def _build(self) -> None:
        self._first = self._num_batches = 0
        self._pipeline = build_pipeline(self._batch_size, self._loading, self._device)
        with self._pipeline:
            self._pipeline.set_outputs(build_outputs(self._graph, self._feed, self._loading, self._device))
        self._pipeline.build()
        self._is_reset = True

    def _feed(self, number: int) -> tuple[Any, ...]:
        if number >= self._num_batches:
            raise StopIteration
        samples, draws = self._read_batch(self._first + number)
        if draws is None:
            return (list(samples),)
        fed = (list(samples), draws.starts, draws.mirrors, draws.offsets, draws.divisors)
        return (*fed, draws.shapes) if self._graph.config.crop == "resized" else fed

    def run(self, first: int, end: int) -> Iterator[Tensor]:
        """Yield batches `first` to `end` - 1: (N, C, side, side), or (N, views, C, side, side), on the device.

        Raises:
            RuntimeError: a sample cannot be decoded; the stream can be run again from any batch.
        """
        self._drain()
        self._first, self._num_batches, self._is_reset = first, end - first, False
        stream = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        while True:
            try:
                (output,) = self._pipeline.run(stream)
            except StopIteration:
                self._reset()
                return
            except RuntimeError:
                self._build()  # DALI calls a pipeline that failed invalid
                raise
            images = from_dlpack(output.as_tensor()).to(self._graph.dtype)
            yield images.movedim(-1, -3) if self._graph.channels_last else images

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
            except RuntimeError:
                self._build()


def build_pipeline(batch_size: int, loading: LoadingConfig, device: torch.device) -> Pipeline:
    """An empty pipeline for batches of at most `batch_size` samples."""
    return Pipeline(
        batch_size=batch_size,
        num_threads=loading.num_threads,
        device_id=device.index if device.type == "cuda" else None,
        prefetch_queue_depth=PREFETCH_DEPTH,
        exec_dynamic=True,
    )


def find_undecodable(
    samples: Sequence[npt.NDArray[np.uint8]], loading: LoadingConfig, device: torch.device
) -> list[int]:
    """Indices of the samples that DALI's decoder refuses, each tried alone."""
    return [index for index, sample in enumerate(samples) if not _is_decodable(sample, loading, device)]


def _is_decodable(sample: npt.NDArray[np.uint8], loading: LoadingConfig, device: torch.device) -> bool:
    pipeline = build_pipeline(1, loading, device)
    with pipeline:
        encoded = fn.external_source(source=lambda: [sample], batch=True, dtype=types.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.image(encoded, **describe_decoding(loading, device)))
    try:
        pipeline.run()
    except RuntimeError:
        return False
    return True


def build_outputs(
    graph: Graph, feed: Callable[[int], tuple[Any, ...]], loading: LoadingConfig, device: torch.device
) -> Any:
    """Connect `feed`, which gives a batch by number, to what the graph makes of it; inside a pipeline's `with`."""
    inputs = [(types.UINT8, 3, "HWC") if graph.raw else (types.UINT8, 1, "")]
    if graph.fixed is None:
        inputs += [(types.INT32, 1, ""), (types.INT32, 0, ""), (types.FLOAT, 1, ""), (types.FLOAT, 1, "")]
        inputs += [(types.INT32, 1, "")] * (graph.config.crop == "resized")
    dtypes, ndims, layouts = zip(*inputs, strict=True)
    encoded, *drawn = fn.external_source(
        source=feed, num_outputs=len(inputs), batch=True, dtype=dtypes, ndim=ndims, layout=layouts
    )
    if graph.fixed is not None:
        return build_views(graph, encoded, loading, device)
    start, mirror, offset, divisor, *shape = drawn
    patch = cut(graph, encoded, start, shape[0] if shape else [graph.config.crop_pixels] * 2, loading, device)
    patch = subtract_mean(graph, patch, start, shape[0] if shape else None, device)
    return finish(graph, patch, device, mirror=mirror, offset=offset, divisor=divisor)


def build_views(graph: Graph, encoded: Any, loading: LoadingConfig, device: torch.device) -> Any:
    """The fixed views of each sample, stacked; a single one is all that is decoded."""
    assert graph.fixed is not None
    shape = [graph.config.crop_pixels] * 2
    whole = None if len(graph.fixed.views) == 1 else decode(graph, encoded, loading, device)
    patches = []
    for view in graph.fixed.views:
        start = [view.top, view.left]
        patch = cut(graph, encoded, start, shape, loading, device) if whole is None else cut_pixels(whole, start, shape)
        patches.append(
            finish(
                graph,
                subtract_mean(graph, patch, start, None, device),
                device,
                mirror=int(view.mirror),
                offset=graph.fixed.offset,
                divisor=graph.fixed.divisor,
            )
        )
    return fn.stack(*patches)


def describe_decoding(loading: LoadingConfig, device: torch.device) -> dict[str, Any]:
    """Arguments of every decoder."""
    mixed = device.type == "cuda" and loading.decoder != "cpu"
    options: dict[str, Any] = {
        "device": "mixed" if mixed else "cpu",
        "output_type": types.RGB,
        "adjust_orientation": False,  # preprocessing decided the orientation once
    }
    if mixed:  # without fancy upsampling 4:2:0 would differ from what the CPU decodes
        options |= {"hw_decoder_load": loading.hw_decoder_load, "jpeg_fancy_upsampling": True}
    return options


def decode(graph: Graph, encoded: Any, loading: LoadingConfig, device: torch.device) -> Any:
    """Whole pictures on the device, (side, side, 3) uint8."""
    images = encoded if graph.raw else fn.decoders.image(encoded, **describe_decoding(loading, device))
    return move(images, device)


def cut(graph: Graph, encoded: Any, start: Any, shape: Any, loading: LoadingConfig, device: torch.device) -> Any:
    """Patches on the device, uint8; nothing but the patch is decoded or moved."""
    if graph.raw:
        return move(cut_pixels(encoded, start, shape), device)
    decoding = describe_decoding(loading, device)
    return move(fn.decoders.image_slice(encoded, start=start, shape=shape, axis_names="HW", **decoding), device)


def cut_pixels(images: Any, start: Any, shape: Any) -> Any:
    """Patches of decoded pictures."""
    return fn.slice(images, start=start, shape=shape, axes=[0, 1])


def move(images: Any, device: torch.device) -> Any:
    """To the GPU, where the batches are wanted there."""
    return images.gpu() if device.type == "cuda" else images


def subtract_mean(graph: Graph, patch: Any, start: Any, shape: Any | None, device: torch.device) -> Any:
    """The patch less the mean image's part that belongs to it; the patch as it is where no mean image is wanted."""
    name, config = "gpu" if device.type == "cuda" else "cpu", graph.config
    side = [config.crop_pixels] * 2
    match config.mean:
        case "centered":
            middle = (graph.mean_image.shape[0] - config.crop_pixels) // 2
            rows = columns = slice(middle, middle + config.crop_pixels)
            return patch - types.Constant(graph.mean_image[rows, columns], device=name)
        case "cropped":
            return patch - cut_pixels(types.Constant(graph.mean_image, device=name), start, shape or side)
        case _:
            return patch


def finish(graph: Graph, patch: Any, device: torch.device, *, mirror: Any, offset: Any, divisor: Any) -> Any:
    """Resize, turn to luminance, then add, divide, mirror, transpose and cast in one operator."""
    config, name = graph.config, "gpu" if device.type == "cuda" else "cpu"
    if config.crop == "resized" or config.resize_pixels is not None:
        side = [config.input_pixels] * 2
        patch = fn.resize(patch, size=side, interp_type=types.INTERP_LINEAR, antialias=True, dtype=types.FLOAT)
    if config.gray:
        weights = types.Constant(np.array(paper.LUMINANCE_WEIGHTS, np.float32), device=name)
        patch = fn.reshape(fn.reductions.sum(patch * weights, axes=[2], keep_dims=True), layout="HWC")
    half = graph.dtype is torch.float16 and device.type == "cuda"  # on a CPU torch casts quicker than DALI
    return fn.crop_mirror_normalize(
        patch,
        mirror=mirror,
        mean=-offset,
        std=divisor,
        output_layout="HWC" if graph.channels_last else "CHW",
        dtype=types.FLOAT16 if half else types.FLOAT,
    )
