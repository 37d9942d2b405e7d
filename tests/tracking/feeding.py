"""A training without a network: it appends to the journal of a run while MLflow is fed, as rank 0 does.

`feeding.py RUN_DIRECTORY EXIT_CODE` goes on until there is a file `enough` in the directory.
"""

import sys
import time
from pathlib import Path

from pipeline.artifacts import RunDirectory
from pipeline.tracking import Journal, feed_mlflow, feeder

PAUSE_SECONDS = 0.02


def main(folder: str, code: str) -> None:
    """Print the longest step at the end."""
    feeder.FEED_INTERVAL_SECONDS = 0.2
    run, longest, step = RunDirectory(Path(folder)), 0.0, 0
    journal = Journal(run.journal)
    with feed_mlflow(run):
        while not (run.path / "enough").exists():
            began, step = time.monotonic(), step + 1
            journal.append(step=step, epoch=step / 100, metrics={"train/loss": 1 / step, "optim/lr": 0.01})
            time.sleep(PAUSE_SECONDS)
            longest = max(longest, time.monotonic() - began)
        print(f"longest step: {longest:.3f} s", flush=True)
        if int(code):
            sys.exit(int(code))


if __name__ == "__main__":
    main(*sys.argv[1:])
