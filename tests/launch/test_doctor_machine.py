"""What the doctor finds of packages, GPUs, limits and disks."""

import os
import resource
from importlib.metadata import version
from pathlib import Path

import PIL
import pytest
import torch
from findings import NOTHING_ASKED, one, write_command
from packaging.requirements import Requirement

from pipeline.launch.doctor import machine, packages
from pipeline.launch.doctor.finding import explain, well
from pipeline.launch.doctor.gpus import (
    PROMISES,
    Driver,
    find_driver,
    judge_computing,
    judge_cuda,
    judge_driver,
    look_at_gpus,
    runs_on,
)
from pipeline.launch.doctor.machine import find_cores, find_memory, find_open_files
from pipeline.options import DoctorConfig

# --- packages


def test_plain_pillow_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setattr(PIL, "__version__", "12.1.1")
    (found,) = packages.look_at_pillow(NOTHING_ASKED)
    assert (found.status, found.found) == ("ill", "plain Pillow 12.1.1 (slower resizing)")
    assert found.advice.startswith("pip uninstall -y pillow pillow-simd")


def test_a_package_that_is_missing_or_too_old_is_named_with_what_was_expected():
    assert packages.find_fault(Requirement("no-such-package>=1")) == "no-such-package is missing"
    assert packages.find_fault(Requirement("torch>=99")) == f"torch is {version('torch')}, expected >=99"
    assert packages.find_fault(Requirement("torch>=2")) is None


def test_dali_decodes_a_jpeg_to_the_pixels_of_pillow(monkeypatch):
    assert one(packages.look_at_dali(NOTHING_ASKED), "DALI").status == "well"
    monkeypatch.setattr(packages, "MAX_DIFFERENCE", -1)
    assert "differ by up to 0 of 255" in one(packages.look_at_dali(NOTHING_ASKED), "DALI").found


# --- GPUs


@pytest.mark.parametrize(
    ("cuda", "built_for", "status"),
    [((12, 8), "13.0", "ill"), ((13, 0), "13.2", "well"), ((13, 1), None, "ill"), (None, "13.0", "ill")],
)
def test_the_driver_has_to_run_the_cuda_that_torch_was_built_for(cuda, built_for, status):
    assert judge_driver(Driver(version="570.1", num_gpus=1, cuda=cuda), built_for).status == status


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
@pytest.mark.parametrize(
    ("environment", "num_gpus", "status"),
    [
        ({}, 0, "skipped"),
        ({}, 1, "ill"),
        ({"SLURM_STEP_GPUS": "0"}, 0, "ill"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 0, "ill"),
        ({"CUDA_VISIBLE_DEVICES": ""}, 1, "skipped"),
    ],
)
def test_gpus_that_are_there_or_promised_have_to_be_seen_by_torch(environment, num_gpus, status):
    (found,) = judge_cuda(Driver(num_gpus=num_gpus), environment)
    assert found.status == status


NO_DRIVER = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."


@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="there is a GPU here")
@pytest.mark.parametrize(("promise", "status"), [({}, "skipped"), ({"SLURM_STEP_GPUS": "0"}, "ill")])
def test_an_nvidia_smi_that_fails_is_quoted_and_wrong_only_where_a_gpu_should_be(
    promise, status, tmp_path, monkeypatch
):
    write_command(tmp_path, "nvidia-smi", f'echo "{NO_DRIVER}"', "exit 9")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in PROMISES:
        monkeypatch.delenv(name, raising=False)
    for name, value in promise.items():
        monkeypatch.setenv(name, value)
    findings = list(look_at_gpus(NOTHING_ASKED))
    assert f"nvidia-smi fails: {NO_DRIVER}" in one(findings, "driver").found
    assert [finding.status for finding in findings] == ["well", status, status, "skipped"]
    assert [finding.subject for finding in findings] == ["torch", "driver", "CUDA", "NCCL"]


@pytest.mark.parametrize("code", [0, 6])
def test_an_nvidia_smi_without_devices_finds_none(code: int, tmp_path: Path, monkeypatch):
    write_command(tmp_path, "nvidia-smi", "echo 'No devices were found'", f"exit {code}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_driver().num_gpus == 0


@pytest.mark.parametrize(
    ("modes", "num_seen"),
    [(("[N/A]", "[N/A]"), 2), (("Enabled", "Disabled", "Disabled"), 2), (("Enabled", "Enabled"), 1)],
)
def test_of_gpus_that_mig_splits_up_a_process_sees_one_part(modes, num_seen, tmp_path: Path, monkeypatch):
    write_command(tmp_path, "nvidia-smi", *(f"echo '580.65.06, {mode}'" for mode in modes))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    driver = find_driver()
    assert (driver.version, driver.num_gpus, driver.num_seen) == ("580.65.06", len(modes), num_seen)


@pytest.mark.parametrize(
    ("built_for", "capability", "runs"),
    [
        (["sm_80", "sm_90"], (9, 0), True),
        (["sm_80"], (8, 6), True),
        (["sm_86"], (8, 0), False),
        (["sm_80", "sm_90"], (12, 0), False),
        (["sm_80", "compute_90"], (12, 0), True),
        (["sm_90a", "sm_100"], (10, 3), True),
        (["sm_75"], (6, 1), False),
    ],
)
def test_machine_code_runs_within_its_major_version_and_what_is_translated_on_all_later_ones(
    built_for, capability, runs
):
    assert runs_on(built_for, capability) == runs


@pytest.fixture
def pretended_gpu(monkeypatch) -> torch.device:
    """The CPU, of which torch says what it says of a GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90"])
    return torch.device("cpu")


def test_a_gpu_that_is_missing_among_those_that_were_named_is_found(pretended_gpu):
    devices = [pretended_gpu] * 3
    assert judge_computing(devices, [], expected=3) == well("CUDA", "3 x H100 (sm_90), compute rightly")
    found = judge_computing(devices, ["CUDA_VISIBLE_DEVICES=0,1,2,3"], expected=4)
    assert (found.status, found.found) == ("ill", "3 x H100 (sm_90), but CUDA_VISIBLE_DEVICES=0,1,2,3")


def test_a_gpu_that_raises_or_is_of_another_kind_than_torch_was_built_for_is_named(pretended_gpu, monkeypatch):
    raising = judge_computing([torch.device("meta")], [], expected=1)
    assert (raising.status, raising.found.split(": ")[0]) == ("ill", "1 x H100 (sm_90), but meta fails")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    other = judge_computing([pretended_gpu], [], expected=1)
    assert (other.status, other.found) == ("ill", "1 x H100 (sm_90), but torch was built for sm_75, sm_80")


@pytest.mark.gpu
def test_a_gpu_computes_rightly():
    found = one(look_at_gpus(NOTHING_ASKED), "CUDA")
    assert found.status == "well", found
    assert found.found.endswith("compute rightly")
    assert one(look_at_gpus(NOTHING_ASKED), "GPU memory").measured["gpus"] == torch.cuda.device_count()


# --- limits and disks


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/job/step\n", {"job/cpu.max": "50000 100000", "job/step/cpu.max": "max 100000"}),
        (
            "4:cpu,cpuacct:/job\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "50000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"},
        ),
    ],
)
def test_a_quota_of_time_on_the_cores_is_found_wherever_the_cgroup_has_it(membership, files, tmp_path: Path):
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    found = find_cores(tmp_path, tmp_path / "membership")
    assert found.measured == {"cores": 0.5}
    assert "pass --num-threads 1" in found.found


@pytest.mark.parametrize(
    ("membership", "folder", "names"),
    [
        ("0::/\n", ".", ("memory.max", "memory.current", "inactive_file")),
        ("3:memory:/\n", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_a_limit_of_memory_is_found_and_what_is_used_of_it(membership, folder, names, tmp_path: Path):
    (tmp_path / "membership").write_text(membership)
    cgroup = tmp_path / folder
    cgroup.mkdir(exist_ok=True)
    limit, use, field = names
    (cgroup / limit).write_text(f"{2**30}\n")
    (cgroup / use).write_text(f"{2**29}\n")
    (cgroup / "memory.stat").write_text(f"anon 17\n{field} {2**28}\n")
    found = find_memory(tmp_path, tmp_path / "membership")
    assert (found.status, found.measured) == ("ill", {"free_bytes": 2**30 - 2**29 + 2**28})
    assert "1.0 allowed (cgroup)" in found.found
    (cgroup / limit).write_text(f"{2**62}\n")
    assert "allowed" not in find_memory(tmp_path, tmp_path / "membership").found


def test_a_machine_without_cgroups_has_no_limits_but_its_own(tmp_path: Path):
    assert find_cores(tmp_path, tmp_path / "nowhere").measured == {"cores": len(os.sched_getaffinity(0))}
    assert "allowed" not in find_memory(tmp_path, tmp_path / "nowhere").found


def test_too_few_open_files_are_found():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        found = find_open_files()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (found.status, found.found) == ("ill", "200 at once")


def test_a_disk_without_room_is_found(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(machine, "MIN_FREE_BYTES", 2**60)
    assert one(machine.look_at_disk(DoctorConfig(out=tmp_path)), "disk").status == "ill"


def test_a_disk_that_refuses_to_take_a_file_is_found(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        (found,) = machine.look_at_disk(DoctorConfig(out=tmp_path / "new"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found.status == "ill"
    assert found.found.endswith("but a file cannot be written: File too large")


def test_locks_that_keep_nobody_apart_are_found(tmp_path: Path, monkeypatch):
    assert machine.find_locks(tmp_path).status == "well"
    monkeypatch.setattr(machine, "TRY_LOCK", "pass")
    assert machine.find_locks(tmp_path).found == "two processes can lock the same file"
    monkeypatch.setattr(machine, "TRY_LOCK", "raise OSError(37, 'No locks available')")
    assert machine.find_locks(tmp_path).found == "OSError: [Errno 37] No locks available"


def test_an_out_that_is_a_file_or_cannot_be_looked_at_is_found(tmp_path: Path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        (found,) = machine.look_at_disk(DoctorConfig(out=out))
        assert found.status == "ill"
        assert found.found.endswith("/file: Not a directory")
    out = tmp_path / ("x" * 300)
    (found,) = machine.look_at_disk(DoctorConfig(out=out))
    assert (found.status, found.found) == ("ill", f"{out}: File name too long")


def test_an_error_that_names_no_file_is_told_of_the_folder_that_was_looked_at(tmp_path: Path):
    assert explain("shards", OSError(5, "Input/output error"), tmp_path).found == f"{tmp_path}: Input/output error"
