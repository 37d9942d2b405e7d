"""The DALI graph, one for training and evaluation, CPU and GPU. Nothing else but a benchmark imports DALI.

Everything random comes in from outside as a function of (seed, epoch, picture), so the graph itself draws nothing.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
NUM_BATCHES_KEPT = 2 * PREFETCH_DEPTH
"""DALI reads what it is fed where it lies, until the output of `PREFETCH_DEPTH` batches later has been taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedViews:
    """The same patches of every picture, whose pixels get `offset` (C,) added and are divided by `divisor` (C,)."""

    views: tuple[View, ...]
    offset: npt.NDArray[np.float32]
    divisor: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """What the graph does to a batch, and where.

    Args:
        config: the augmentation.
        mean_image: (side, side, 3) float32, 0-255.
        raw: samples are pixels, which need no decoding.
        loading: threads and decoder.
        device: where the batches are wanted; on CUDA the float work is done there, too.
        fixed: patches of every picture; None takes one patch per picture, where its draws say.
        dtype: of the batches; float32, float16 or bfloat16.
        channels_last: memory format of the batches.
    """

    config: AugmentConfig
    mean_image: npt.NDArray[np.float32]
    raw: bool
    loading: LoadingConfig
    device: torch.device
    fixed: FixedViews | None = None
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether the batches are wanted on a GPU."""
        return self.device.type == "cuda"

    @property
    def decodes_on_gpu(self) -> bool:
        """Whether JPEGs are decoded there, too."""
        return self.on_gpu and not self.raw and self.loading.decoder != "cpu"

    def build_empty_batch(self) -> Tensor:
        """A training batch without pictures."""
        side = self.config.input_pixels
        memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        images = torch.empty((0, self.config.num_channels, side, side), dtype=self.dtype, device=self.device)
        return images.contiguous(memory_format=memory_format)

    def build_constant(self, values: npt.NDArray[np.float32]) -> Any:
        """Values that are the same for every sample, on the device."""
        return types.Constant(values, device="gpu" if self.on_gpu else "cpu")


Samples = tuple[Sequence[npt.NDArray[np.uint8]], Draws | None]
"""One batch on its way into the graph: N arrays of encoded bytes, or of (side, side, 3) pixels; and their draws, unless
the views are fixed."""


Box = tuple[Any, Any]
"""Where patches lie: top and left, height and width, as numbers or as what DALI is fed."""


class BatchStream:
    """Runs a graph over batches that a function hands out by number, again and again."""

    def __init__(self, graph: Graph, read_batch: Callable[[int], Samples], *, batch_size: int) -> None:
        """Build the pipeline.

        Args:
            graph: what to do.
            read_batch: batch by number; at most `batch_size` samples.
            batch_size: largest batch.
        """
        self.graph, self._read_batch, self._batch_size = graph, read_batch, batch_size
        self._build()

    def _build(self) -> None:
        self._first = self._num_batches = 0
        self._pipeline = build_pipeline(
            self.graph, self._batch_size
        )  # in place of one that may still read what is kept
        self._kept: deque[tuple[Any, ...]] = deque(maxlen=NUM_BATCHES_KEPT)
        with self._pipeline:
            self._pipeline.set_outputs(build_outputs(self.graph, self._feed))
        self._pipeline.build()
        self._is_reset = True

    def _feed(self, number: int) -> tuple[Any, ...]:
        if number >= self._num_batches:
            raise StopIteration
        samples, draws = self._read_batch(self._first + number)
        fed: tuple[Any, ...] = (list(samples),)
        if draws is not None:
            fed += (draws.starts, draws.mirrors, draws.offsets, draws.divisors)
            fed += (draws.shapes,) * (self.graph.config.crop == "resized")
        self._kept.append(fed)
        return fed

    def run(self, first: int, end: int) -> Iterator[Tensor]:
        """Yield batches `first` to `end` - 1: (N, C, side, side), or (N, views, C, side, side), on the device.

        Raises:
            RuntimeError: a sample cannot be decoded; the stream can be run again from any batch.
        """
        self._drain()
        self._first, self._num_batches, self._is_reset = first, end - first, False
        stream = torch.cuda.current_stream(self.graph.device) if self.graph.on_gpu else None
        while True:
            try:
                (output,) = self._pipeline.run(stream)
            except StopIteration:
                self._reset()
                return
            except RuntimeError:
                self._build()  # DALI calls a pipeline that failed invalid
                raise
            images = from_dlpack(output.as_tensor()).to(self.graph.dtype)
            yield images.movedim(-1, -3) if self.graph.channels_last else images

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


def build_pipeline(graph: Graph, batch_size: int) -> Pipeline:
    """An empty pipeline for batches of at most `batch_size` samples."""
    return Pipeline(
        batch_size=batch_size,
        num_threads=graph.loading.num_threads,
        device_id=graph.device.index if graph.on_gpu else None,
        prefetch_queue_depth=PREFETCH_DEPTH,
        exec_dynamic=True,
    )


def is_decodable(
    graph: Graph, encoded: npt.NDArray[np.uint8], start: npt.NDArray[np.int32], shape: npt.NDArray[np.int32]
) -> bool:
    """Whether DALI's decoder for the CPU takes a picture of the set's size, tried alone.

    It is tried with as much as the graph decodes: a patch, from `start` (2,) and of `shape` (2,), or on a GPU all.
    """
    alone = replace(graph, device=torch.device("cpu"))  # where no lack of a GPU's memory can be taken for damage
    pipeline = build_pipeline(alone, 1)
    with pipeline:
        source = fn.external_source(source=lambda: [encoded], batch=True, dtype=types.UINT8, ndim=1)
        box = (start.tolist(), shape.tolist())
        pipeline.set_outputs(decode(alone, source) if graph.decodes_on_gpu else cut(alone, source, box))
    try:
        pipeline.run()
    except RuntimeError:
        return False
    return True


def build_outputs(graph: Graph, feed: Callable[[int], tuple[Any, ...]]) -> Any:
    """Connect `feed`, which gives a batch by number, to what the graph makes of it; inside a pipeline's `with`."""
    inputs = [(types.UINT8, 3, "HWC") if graph.raw else (types.UINT8, 1, "")]
    if graph.fixed is None:
        inputs += [(types.INT32, 1, ""), (types.INT32, 0, ""), (types.FLOAT, 1, ""), (types.FLOAT, 1, "")]
        inputs += [(types.INT32, 1, "")] * (graph.config.crop == "resized")
    dtypes, ndims, layouts = zip(*inputs, strict=True)
    encoded, *drawn = fn.external_source(
        source=feed, num_outputs=len(inputs), batch=True, dtype=dtypes, ndim=ndims, layout=layouts, no_copy=True
    )
    if graph.fixed is not None:
        return build_views(graph, graph.fixed, encoded)
    start, mirror, offset, divisor, *shape = drawn
    box = (start, *(shape or [[graph.config.crop_pixels] * 2]))
    return build_patch(graph, encoded, box, mirror=mirror, offset=offset, divisor=divisor)


def build_patch(graph: Graph, encoded: Any, box: Box, **normalization: Any) -> Any:
    """One patch of each sample: cut, less the mean, and finished with `normalization`."""
    return finish(graph, subtract_mean(graph, cut(graph, encoded, box), box), **normalization)


def build_views(graph: Graph, fixed: FixedViews, encoded: Any) -> Any:
    """The fixed views of each sample, stacked; a single one is all that is decoded."""
    whole = None if len(fixed.views) == 1 else decode(graph, encoded)
    patches = []
    for view in fixed.views:
        box = ([view.top, view.left], [graph.config.crop_pixels] * 2)
        patch = cut(graph, encoded, box) if whole is None else cut_pixels(whole, box)
        patch = subtract_mean(graph, patch, box)
        patches.append(finish(graph, patch, mirror=int(view.mirror), offset=fixed.offset, divisor=fixed.divisor))
    return fn.stack(*patches)


def describe_decoding(graph: Graph) -> dict[str, Any]:
    """Arguments of every decoder."""
    options: dict[str, Any] = {
        "device": "mixed" if graph.decodes_on_gpu else "cpu",
        "output_type": types.RGB,
        "adjust_orientation": False,  # preprocessing decided the orientation once
    }
    if graph.decodes_on_gpu:
        options["hw_decoder_load"] = graph.loading.hw_decoder_load
        options["jpeg_fancy_upsampling"] = True  # as the CPU does; without it 4:2:0 would differ
    return options


def decode(graph: Graph, encoded: Any) -> Any:
    """Whole pictures on the device, (side, side, 3) uint8."""
    images = encoded
    if not graph.raw:
        images = fn.decoders.image(prove_headers(graph, encoded), **describe_decoding(graph))
    return images.gpu() if graph.on_gpu else images


def cut(graph: Graph, encoded: Any, box: Box) -> Any:
    """Patches on the device, uint8; a CPU decodes nothing else, nor is anything else moved."""
    if graph.decodes_on_gpu:  # nvImageCodec 0.9 cannot decode a part on some GPUs (its issue 55)
        return cut_pixels(decode(graph, encoded), box)
    if graph.raw:
        patch = cut_pixels(encoded, box)
    else:
        options = {"start": box[0], "shape": box[1], "axis_names": "HW", **describe_decoding(graph)}
        patch = fn.decoders.image_slice(prove_headers(graph, encoded), **options)
    return patch.gpu() if graph.on_gpu else patch


def prove_headers(graph: Graph, encoded: Any) -> Any:
    """The samples as they are, once each header is known to be sound and to say the set's size.

    The decoder has to wait for this: what DALI 2.4 finds wrong with a header or a patch within the decoder, it raises
    while the decoder's threads are at work on the rest of the batch, and the process ends more often than not.
    """
    height_width = fn.slice(fn.peek_image_shape(encoded, dtype=types.INT32), 0, 2, axes=[0])
    only = types.Constant(np.zeros((1, 1), np.int32))  # has no other place than (0, 0): all else is an error
    zero = fn.slice(only, start=height_width - graph.mean_image.shape[0], shape=[1, 1], axes=[0, 1])
    return encoded[zero[0, 0] :]


def cut_pixels(images: Any, box: Box) -> Any:
    """Patches of decoded pictures."""
    start, shape = box
    return fn.slice(images, start=start, shape=shape, axes=[0, 1])


def subtract_mean(graph: Graph, patch: Any, box: Box) -> Any:
    """The patch less the mean image's part that belongs to it; the patch as it is where no mean image is wanted."""
    match graph.config.mean:
        case "centered":
            middle = (graph.mean_image.shape[0] - graph.config.crop_pixels) // 2
            rows = columns = slice(middle, middle + graph.config.crop_pixels)
            return patch - graph.build_constant(graph.mean_image[rows, columns])
        case "cropped":
            return patch - cut_pixels(graph.build_constant(graph.mean_image), box)
        case _:
            return patch


def finish(graph: Graph, patch: Any, *, mirror: Any, offset: Any, divisor: Any) -> Any:
    """Resize, turn to luminance, then add, divide, mirror, transpose and cast in one operator."""
    config = graph.config
    if config.resize_pixels is not None or (config.crop == "resized" and graph.fixed is None):
        side = [config.input_pixels] * 2
        patch = fn.resize(patch, size=side, interp_type=types.INTERP_LINEAR, antialias=True, dtype=types.FLOAT)
    if config.gray:
        weights = graph.build_constant(np.array(paper.LUMINANCE_WEIGHTS, np.float32))
        patch = fn.reshape(fn.reductions.sum(patch * weights, axes=[2], keep_dims=True), layout="HWC")
    half = graph.dtype is torch.float16 and graph.on_gpu  # on a CPU torch casts quicker than DALI
    return fn.crop_mirror_normalize(
        patch,
        mirror=mirror,
        mean=-offset,
        std=divisor,
        output_layout="HWC" if graph.channels_last else "CHW",
        dtype=types.FLOAT16 if half else types.FLOAT,
    )
