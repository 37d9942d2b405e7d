"""`alexnet drill`: a pre-emption on one machine."""

import sys

from pipeline.commands.command import Command
from pipeline.errors import RUN_ERROR_CODE, check
from pipeline.options import DrillConfig


def start_drill(command: Command, words: list[str]) -> None:
    """Play it with the words that follow `train`, or with handwritten digits."""
    place = words.index("train") if "train" in words else len(words)
    config = command.parse(
        DrillConfig,
        words[:place],
        about=f"{command.summary}. `alexnet drill [options] train EXPERIMENT --data …` plays yours.",
    )
    training = words[place + 1 :]
    check(
        not any(word.split("=")[0] in ("--out", "--max-steps", "--resume", "--begin-or-resume") for word in training),
        "the drill sets --out, --max-steps and --begin-or-resume of the training itself: leave them out after `train`",
    )
    from pipeline.launch.drill import drill

    if not drill(config, training):
        sys.exit(RUN_ERROR_CODE)


DRILL = Command("drill", "two pre-emptions and a power cut on this machine: does training survive them?", start_drill)
