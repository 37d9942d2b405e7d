"""Why ranks ended: exit code and sentence in files, since torchrun and srun lose both."""

import contextlib
import os
from pathlib import Path

VARIABLE = "ALEXNET_ENDINGS"
"""Names the folder."""


def leave_ending(code: int, sentence: str) -> None:
    """Leave this rank's exit code in a file's name and in front of the sentence that it holds: `rank-3.75`.

    A disk that is full still takes the name. Outside of a world, or where no folder is named, nothing is left.
    """
    folder, rank = os.environ.get(VARIABLE), os.environ.get("RANK")
    if folder and rank:
        with contextlib.suppress(OSError):
            (Path(folder) / f"rank-{rank}.{code}").write_text(f"{code} {sentence}\n")


def list_endings() -> set[int]:
    """Exit codes that ranks of any node have left."""
    return {int(path.suffix[1:]) for path in Path(os.environ[VARIABLE]).glob("rank-*")}
