"""Pictures that cannot be decoded any more: found, named, and left out where that is wanted."""

import io
import re
import sys
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.artifacts import DamagedImage, ShardSplit
from pipeline.augment.dali import Graph, is_decodable
from pipeline.errors import RunError


@dataclass(kw_only=True, slots=True)
class Damage:
    """The pictures of one split that were found damaged, by position, each with a sentence that names it.

    A picture may be sound in one patch and not in another, for a CPU decodes no more than the patch. What is left out
    therefore depends on the patch alone, and not on what happened before.
    """

    split: ShardSplit
    graph: Graph
    found: dict[int, str] = field(default_factory=dict)

    def describe(self) -> list[DamagedImage]:
        """What was found, for the run directory."""
        return [
            DamagedImage(split=self.split.name, position=position, sentence=sentence)
            for position, sentence in sorted(self.found.items())
        ]

    def search(
        self,
        positions: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int32],
        shapes: npt.NDArray[np.int32],
        error: RuntimeError,
    ) -> npt.NDArray[np.int64]:
        """Find the pictures over which DALI lost a batch, and say each on standard error, once.

        Args:
            positions: (N,) of the batch.
            starts: (N, 2) top and left of what is decoded of each.
            shapes: (N, 2) height and width of it.
            error: what DALI said.

        Returns:
            Indices into `positions`, at least one.

        Raises:
            RunError: there are damaged pictures, and they are not to be left out; or only a GPU fails.
            RuntimeError: DALI's error is about something else.
        """
        if self.graph.raw:
            raise error  # there is nothing to decode
        damaged = [
            index
            for index, (position, start, shape) in enumerate(zip(positions.tolist(), starts, shapes, strict=True))
            if not is_decodable(self.graph, self.split.read(position), start, shape)
        ]
        if not damaged and self.graph.decodes_on_gpu:
            raise RunError(
                f"DALI failed on the GPU over a batch that a CPU decodes, {self.split.locate(int(positions[0]))} first "
                f"in it ({str(error).strip().splitlines()[-1]}): if its decoder is the reason, take --decoder cpu"
            ) from error
        if not damaged:
            raise error
        for position in positions[damaged].tolist():
            self._report(position)
        return np.array(damaged)

    def _report(self, position: int) -> None:
        sentence = f"{self.split.locate(position)} cannot be decoded ({self._explain(position)})"
        if self.graph.loading.on_damaged == "stop":
            raise RunError(
                f"{sentence}, so the shard was damaged after it was written: see `alexnet preprocess verify` and "
                "`repair`, or go on without such pictures by --on-damaged skip"
            )
        if position not in self.found:
            self.found[position] = sentence
            print(f"augment: {sentence}: left out", file=sys.stderr, flush=True)

    def _explain(self, position: int) -> str:
        """Why, in Pillow's words, which are for people."""
        try:
            image = Image.open(io.BytesIO(self.split.read(position).tobytes()))
            image.load()
        except Exception as error:  # noqa: BLE001 - on damaged bytes Pillow raises nearly anything
            return re.sub(r" <_io\.BytesIO object at \w+>", "", str(error))
        height, width, _ = self.graph.mean_image.shape
        if image.size != (width, height):
            return f"it has {image.width}x{image.height} pixels, where the set has {width}x{height}"
        return "the decoder refuses it"
