"""Where a number comes from: command, commit, machine and versions."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import PIL

PILLOW_ADVICE = "pip uninstall -y pillow pillow-simd && pip install --no-deps pillow-simd"
TOOLS = ("torch", "torchvision", "nvidia-dali-cuda130", "mlflow", "pillow-simd", "pillow", "numpy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """Commit of this code, and whether files differ from it."""

    id: str
    dirty: bool


def read_commit() -> Commit:
    """Commit of the checkout that this package runs from; outside of one what ALEXNET_COMMIT says, or `unknown`."""
    root = Path(__file__).parent
    if told := os.environ.get("ALEXNET_COMMIT"):
        return Commit(id=told, dirty=False)
    try:
        _git(root, "ls-files", "--error-unmatch", Path(__file__).name)  # an installed copy may lie in another checkout
        head = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no", ":/")
    except (OSError, subprocess.CalledProcessError):
        return Commit(id="unknown", dirty=True)
    return Commit(id=head, dirty=changes != "")


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def read_command(world_size: int) -> str:
    """The command line of this process, as a person would type it again."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    step = f"srun --nodes {world_size // ranks} --ntasks-per-node 1 " if world_size > ranks else ""
    launcher = f"{step}alexnet torchrun --nproc-per-node {ranks}" if world_size > 1 else "alexnet"
    return f"{launcher} {shlex.join(sys.argv[1:])}"


def is_pillow_simd() -> bool:
    """Whether the active imaging library is Pillow-SIMD, which marks its versions as post-releases."""
    return ".post" in PIL.__version__


def read_tool_versions(tools: Sequence[str] = TOOLS) -> dict[str, str]:
    """Version of Python and of each of `tools` that is installed."""
    found = {"python": platform.python_version()} if tools is TOOLS else {}
    for tool in tools:
        try:
            found[tool] = version(tool)
        except PackageNotFoundError:
            continue
    return found


def read_machine() -> str:
    """Processor and number of cores, for people; without host name."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = f"{models[0]}, {len(models)} cores" if models else model
    return model
