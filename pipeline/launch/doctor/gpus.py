"""GPUs: what the driver has, what torch sees of it, and whether it computes."""

import ctypes
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.launch.doctor.finding import Finding, ill, judge, quote, skipped, well
from pipeline.options import DoctorConfig

if TYPE_CHECKING:  # a torch that cannot be imported is a finding
    import torch

QUERY_SECONDS = 10
SIDE = 256
MIN_FREE_SHARE = 0.5
"""Of a GPU's memory; with less, somebody else is at work on it."""
HIDDEN = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that hide all GPUs."""
PROMISES = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
BROKEN_ADVICE = "take it out of use: name the others in CUDA_VISIBLE_DEVICES, or take another node"


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """What is there without torch: version of the driver, its GPUs, and the newest CUDA that it runs.

    `num_seen` is how many of the GPUs CUDA shows a process: of those that are split up by MIG, one instance of one.
    """

    version: str = ""
    num_gpus: int = 0
    num_seen: int = 0
    cuda: tuple[int, int] | None = None


def look_at_gpus(config: DoctorConfig) -> Iterator[Finding]:
    """Import torch, compare it with the driver, and compute something on each GPU."""
    import torch

    yield well(
        "torch", f"{torch.__version__}, built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPU'}"
    )
    try:
        driver = find_driver()
    except (OSError, subprocess.SubprocessError) as error:
        driver = Driver(cuda=find_newest_cuda())
        found = f"nvidia-smi fails: {quote(error)}"
        if has_gpus(os.environ):
            yield ill("driver", found, "restart the machine, or install the driver anew")
        else:
            yield skipped("driver", f"{found}; nothing says that there is a GPU")
    else:
        yield judge_driver(driver, torch.version.cuda)
    yield from judge_cuda(driver, os.environ)
    if torch.distributed.is_nccl_available() and torch.cuda.is_available():
        version: tuple[int, ...] = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
        yield well("NCCL", ".".join(map(str, version)))
    else:
        yield skipped("NCCL", "of no use without a GPU; ranks talk by gloo")


def has_gpus(environment: Mapping[str, str]) -> bool:
    """Whether the kernel has GPUs, or they were promised: by Slurm, or by whoever named some of them."""
    promised = any(environment.get(name, "") not in HIDDEN for name in PROMISES)
    return promised or any(Path("/dev").glob("nvidia[0-9]*"))


def find_driver() -> Driver:
    """Ask nvidia-smi and the driver's library; without either of them nothing is found.

    Raises:
        SubprocessError: nvidia-smi fails, or does not answer.
    """
    query = ["nvidia-smi", "--query-gpu=driver_version,mig.mode.current", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False)
    except FileNotFoundError:
        return Driver(cuda=find_newest_cuda())
    said = (answer.stdout + answer.stderr).strip()
    if "No devices were found" in said:  # with 6 or, of older drivers, with 0
        return Driver(cuda=find_newest_cuda())
    if answer.returncode:
        raise subprocess.SubprocessError(said)
    rows = [line.split(", ") for line in answer.stdout.splitlines()]
    num_whole = sum(mode != "Enabled" for _, mode in rows)
    return Driver(version=rows[0][0], num_gpus=len(rows), num_seen=num_whole or 1, cuda=find_newest_cuda())


def find_newest_cuda() -> tuple[int, int] | None:
    """Major and minor version of the newest CUDA that the driver runs; None without a driver."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    return (
        (number.value // 1000, number.value % 1000 // 10)
        if library.cuDriverGetVersion(ctypes.byref(number)) == 0
        else None
    )


def judge_driver(driver: Driver, built_for: str | None) -> Finding:
    """Whether the driver runs the CUDA that torch was built for; minor versions of one major version go together."""
    if driver.cuda is None:
        if not driver.num_gpus:
            return skipped("driver", "no NVIDIA driver here")
        return ill(
            "driver",
            f"{driver.version}, but libcuda.so.1 cannot be loaded",
            "in a container, start it with --gpus all (Docker), --nv (Apptainer); else install the driver anew",
        )
    found = f"{driver.version or 'version unknown'}, runs CUDA {'.'.join(map(str, driver.cuda))}"
    if built_for is None:
        advice = "install torch as requirements.lock has it: make setup"
        return ill("driver", f"{found}, but torch was built for CPUs only", advice)
    advice = f"install a driver that runs CUDA {built_for}, or a torch for the CUDA that this one runs"
    return judge(driver.cuda[0] >= int(built_for.split(".")[0]), "driver", f"{found}, torch wants {built_for}", advice)


def judge_cuda(driver: Driver, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether torch sees the GPUs that are there or were promised, and whether they compute."""
    import torch

    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible in HIDDEN:
        yield skipped("CUDA", f"hidden by CUDA_VISIBLE_DEVICES={visible}; all runs on the CPU")
        return
    promises = [f"{name}={environment[name]}" for name in PROMISES if environment.get(name)]
    if driver.num_gpus:
        promises.append(f"nvidia-smi shows {driver.num_gpus} GPUs")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        if not promises:
            yield skipped("CUDA", "torch sees no GPU, and nothing says that there is one; all runs on the CPU")
            return
        advice = "in a container: --gpus all (Docker) or --nv (Apptainer); on a host see `nvidia-smi` and `dmesg`"
        yield ill("CUDA", f"{', '.join(promises)}, but torch sees none ({quote(error)})", advice)
        return
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    yield judge_computing(devices, promises, expected=len(visible.split(",")) if visible else driver.num_seen)
    yield judge_memory(devices)


def judge_computing(devices: Sequence["torch.device"], promises: Sequence[str], *, expected: int) -> Finding:
    """Whether there are as many GPUs as expected, torch was built for them, and each computes rightly."""
    import torch

    kinds = Counter(
        f"{torch.cuda.get_device_name(device)} (sm_{''.join(map(str, torch.cuda.get_device_capability(device)))})"
        for device in devices
    )
    found = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    built_for = torch.cuda.get_arch_list()
    for device in devices:
        if not runs_on(built_for, torch.cuda.get_device_capability(device)):
            advice = "take a GPU of another kind, or a torch that was built for this one"
            return ill("CUDA", f"{found}, but torch was built for {', '.join(built_for)}", advice)
        try:
            ones = torch.ones(SIDE, SIDE, device=device)
            total = (ones @ ones).sum().item()
        except RuntimeError as error:
            return ill("CUDA", f"{found}, but {device} fails: {quote(error)}", f"see `dmesg`; {BROKEN_ADVICE}")
        if total != SIDE**3:
            return ill("CUDA", f"{found}, but {device} computes {total} where {SIDE**3} is right", BROKEN_ADVICE)
    if len(devices) < expected:
        return ill("CUDA", f"{found}, but {', '.join(promises)}", "see `nvidia-smi` and `dmesg` for the others")
    return well("CUDA", f"{found}, compute rightly")


def runs_on(built_for: Sequence[str], capability: tuple[int, int]) -> bool:
    """Whether one of torch's architectures, `sm_90` or `compute_90`, runs on a GPU of a capability.

    Machine code (`sm`) runs on its own major version from its minor one on; `compute` is translated for all later ones.
    """
    major, minor = capability
    for name in built_for:
        kind, number = name.split("_")
        built = divmod(int(re.sub(r"\D", "", number)), 10)
        if built <= (major, minor) and (kind == "compute" or built[0] == major):
            return True
    return False


def judge_memory(devices: Sequence["torch.device"]) -> Finding:
    """Whether each GPU has most of its memory free."""
    import torch

    memory = [torch.cuda.mem_get_info(device) for device in devices]
    index, (free, total) = min(enumerate(memory), key=lambda item: item[1][0] / item[1][1])
    fullest = f" on cuda:{index}, the fullest" if len(devices) > 1 else ""
    found = f"{free / 2**30:.0f} of {total / 2**30:.0f} GiB free{fullest}"
    advice = "`nvidia-smi` names the processes that fill it: end them, or choose others with CUDA_VISIBLE_DEVICES"
    return judge(free >= MIN_FREE_SHARE * total, "GPU memory", found, advice, free_bytes=free, gpus=len(devices))
