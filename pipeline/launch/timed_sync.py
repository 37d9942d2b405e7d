"""What the sync benchmark does in a process of its own; like `alexnet sync`, it does without torch."""

import os
import re
import time
from pathlib import Path

from pipeline.artifacts import RunDirectory
from pipeline.tracking import sync_run
from pipeline.tracking.server import connect


def time_sync(run: RunDirectory, uri: str) -> tuple[float, int, int]:
    """Body of the process: seconds of a sync, and the most memory before it and in all."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    connect(uri)
    before, began = read_peak_bytes(), time.perf_counter()
    sync_run(run)
    return time.perf_counter() - began, before, read_peak_bytes()


def read_peak_bytes() -> int:
    """The most memory that this process had; `getrusage` would count its parent's, too, as of the fork."""
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kilobytes) * 1024
