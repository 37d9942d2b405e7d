"""A look at the machine: what is installed, what is missing, and what to do about it."""

import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.provenance import PILLOW_ADVICE, is_pillow_simd

MIN_FREE_BYTES = 10 * 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is well, what was found, and what to do if it is not."""

    subject: str
    ok: bool
    found: str
    advice: str = ""


def find_pillow() -> Finding:
    """Which of Pillow and Pillow-SIMD is active; installed both, the later one silently wins."""
    import PIL
    from PIL import features

    jpeg = features.version_feature("libjpeg_turbo") or "without libjpeg-turbo"
    if is_pillow_simd():
        return Finding(subject="Pillow", ok=True, found=f"Pillow-SIMD {PIL.__version__}, libjpeg-turbo {jpeg}")
    return Finding(
        subject="Pillow", ok=False, found=f"plain Pillow {PIL.__version__} (slower resizing)", advice=PILLOW_ADVICE
    )


def find_package(module: str, package: str) -> Finding:
    """Version of a package, by importing it."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        return Finding(subject=package, ok=False, found=str(error), advice=f"pip install {package}, or `make setup`")
    return Finding(subject=package, ok=True, found=str(found.__version__))


def find_gpu() -> Finding:
    """GPUs that torch sees; none is well, too, and only slower."""
    import torch

    if not torch.cuda.is_available():
        return Finding(subject="GPU", ok=True, found="none that torch sees; everything runs on the CPU, slower")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding(subject="GPU", ok=True, found=f"{len(names)} x {names[0]}, CUDA {torch.version.cuda}")


def find_disk() -> Finding:
    """Free space where one stands."""
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / 2**30:.0f} GiB free in {Path.cwd()}"
    return Finding(
        subject="disk", ok=free >= MIN_FREE_BYTES, found=found, advice="make room: full ImageNet needs 60 GB"
    )


def find_cores() -> Finding:
    """Processor cores that this process may use."""
    return Finding(subject="cores", ok=True, found=str(len(os.sched_getaffinity(0))))


LOOKS: tuple[Callable[[], Finding], ...] = (
    lambda: find_package("torch", "torch"),
    lambda: find_package("torchvision", "torchvision"),
    lambda: find_package("nvidia.dali", "nvidia-dali-cuda130"),
    lambda: find_package("mlflow", "mlflow"),
    find_pillow,
    find_gpu,
    find_cores,
    find_disk,
)


def diagnose() -> bool:
    """Print a line for each finding; returns whether all is well."""
    findings = [look() for look in LOOKS]
    for finding in findings:
        print(f"{'✓' if finding.ok else '✗'} {finding.subject:<20} {finding.found}")
        if not finding.ok:
            print(f"  {'':<20} → {finding.advice}")
    return all(finding.ok for finding in findings)
