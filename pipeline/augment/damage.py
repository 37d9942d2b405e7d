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
    """The pictures of one split that were found damaged, by position, each with a sentence that names it."""

    split: ShardSplit
    graph: Graph
    found: dict[int, str] = field(default_factory=dict)

    def select_sound(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Indices into `positions` of the pictures that are not known to be damaged."""
        return np.flatnonzero(~np.isin(positions, list(self.found)))

    def describe(self) -> list[DamagedImage]:
        """What was found, for the run directory."""
        return [
            DamagedImage(split=self.split.name, position=position, sentence=sentence)
            for position, sentence in sorted(self.found.items())
        ]

    def search(self, positions: npt.NDArray[np.int64]) -> bool:
        """Look for damaged pictures in a batch that could not be decoded, and say each on standard error.

        Returns:
            Whether any was found.

        Raises:
            RunError: there are some, and they are not to be left out.
        """
        if self.graph.raw:
            return False  # there is nothing to decode
        suspects = positions[self.select_sound(positions)].tolist()
        damaged = [position for position in suspects if not is_decodable(self.graph, self.split.read(position))]
        for position in damaged:
            sentence = f"{self.split.locate(position)} cannot be decoded ({self._explain(position)})"
            if self.graph.loading.on_damaged == "stop":
                raise RunError(
                    f"{sentence}, so the shard was damaged after it was written: see `alexnet preprocess verify` and "
                    "`repair`, or go on without such pictures by --on-damaged skip"
                )
            self.found[position] = sentence
            print(f"augment: {sentence}: left out", file=sys.stderr, flush=True)
        return len(damaged) > 0

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
