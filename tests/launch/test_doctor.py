"""What the doctor finds on real files, sockets and processes, and what it says of several nodes."""

import functools
import http.server
import json
import os
import resource
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import PIL
import pytest
import torch
from commands import run_command
from packaging.requirements import Requirement
from ranks import run_ranks

from pipeline.artifacts import ShardSet, from_json, write_json
from pipeline.errors import InputError
from pipeline.launch.doctor import disk, packages, slurm
from pipeline.launch.doctor.exchange import FOLDER_VARIABLE
from pipeline.launch.doctor.finding import Finding, ill, well
from pipeline.launch.doctor.gpus import Driver, judge_cuda, judge_driver, look_at_gpus
from pipeline.launch.doctor.limits import find_cores, find_memory, find_open_files
from pipeline.launch.doctor.network import RankReport, judge_nodes
from pipeline.launch.doctor.processes import Look, run_looks
from pipeline.launch.doctor.reading import look_at_data, look_at_source
from pipeline.launch.doctor.server import look_at_mlflow
from pipeline.launch.doctor.table import Line, format_table, merge
from pipeline.options import DoctorConfig

NOTHING_ASKED = DoctorConfig()


def one(findings: Iterator[Finding], subject: str) -> Finding:
    """The finding of that subject."""
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


# --- the command


def test_the_doctor_finds_this_machine_well_and_prints_nothing_but_json(
    shard_set: ShardSet, pictures: Path, tmp_path: Path
):
    new = tmp_path / "runs" / "new"
    words = ("--data", str(shard_set.path), "--source", str(pictures), "--out", str(new), "--json")
    result = run_command("doctor", *words)
    assert result.returncode == 0, result.stdout
    assert result.stderr == ""
    report = json.loads(result.stdout)
    assert report["ok"]
    found = {finding["subject"]: finding for finding in report["findings"]}
    assert {finding["status"] for finding in found.values()} == {"well", "skipped"}
    assert found["Python"]["found"].startswith(".".join(map(str, os.sys.version_info[:2])))
    assert found["torch"]["found"].startswith(torch.__version__)
    assert f"Pillow-SIMD {PIL.__version__}" in found["Pillow"]["found"]
    assert shard_set.info.digest[:12] in found["shards"]["found"]
    assert found["shard speed"]["measured"]["images_per_second"] > 0
    assert "folders" in found["source"]["found"]
    assert found["MLflow server"]["status"] == "skipped"
    assert str(tmp_path) in found["disk"]["found"]
    assert list(tmp_path.iterdir()) == []


def test_all_reduce_looks_at_nothing_else():
    with pytest.raises(InputError, match="--all-reduce looks at nothing else: leave out --data"):
        DoctorConfig(all_reduce=True, data=Path("shards"))


# --- looks in their processes


def crash(config: DoctorConfig) -> Iterator[Finding]:
    print("noise")
    yield well("first", "before the crash")
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(config: DoctorConfig) -> Iterator[Finding]:
    time.sleep(60)
    yield well("hang", "never")


def stumble(config: DoctorConfig) -> Iterator[Finding]:
    yield well("stumble", str(config.out))
    raise KeyError("missing")


def test_a_look_that_crashes_hangs_or_raises_is_a_finding_and_spoils_no_other(capfd):
    together = [Look("crash", crash, "mend it"), Look("hang", hang, "kick it", seconds=0.5)]
    findings, have_ended = run_looks(together, [Look("stumble", stumble, "lift it")], DoctorConfig(out=Path("there")))
    assert findings == [
        well("first", "before the crash"),
        ill("crash", "died of SIGSEGV", "mend it"),
        ill("hang", "no answer within 0.5 s", "kick it"),
        well("stumble", "there"),
        ill("stumble", "KeyError: 'missing'", "lift it"),
    ]
    assert have_ended
    assert capfd.readouterr() == ("", "")


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
    assert judge_driver(Driver(version="570.1", names=("GPU",), cuda=cuda), built_for).status == status


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
@pytest.mark.parametrize(
    ("environment", "names", "status"),
    [
        ({}, (), "skipped"),
        ({}, ("H100",), "ill"),
        ({"SLURM_STEP_GPUS": "0"}, (), "ill"),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, (), "ill"),
        ({"CUDA_VISIBLE_DEVICES": ""}, ("H100",), "skipped"),
    ],
)
def test_gpus_that_are_there_or_promised_have_to_be_seen_by_torch(environment, names, status):
    (found,) = judge_cuda(Driver(version="", names=names, cuda=None), environment)
    assert found.status == status


def write_command(folder: Path, name: str, *lines: str) -> None:
    """An executable shell script."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(("#!/bin/sh", *lines)))
    (folder / name).chmod(0o755)


def test_an_nvidia_smi_that_fails_is_quoted(tmp_path: Path, monkeypatch):
    write_command(
        tmp_path, "nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'", "exit 18"
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = one(look_at_gpus(NOTHING_ASKED), "driver")
    assert found.found == "nvidia-smi fails: Failed to initialize NVML: Driver/library version mismatch"


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
    ("membership", "name"), [("0::/\n", "memory.max"), ("3:memory:/\n", "memory/memory.limit_in_bytes")]
)
def test_a_limit_of_memory_is_found(membership, name, tmp_path: Path):
    (tmp_path / "membership").write_text(membership)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(f"{2**30}\n")
    found = find_memory(tmp_path, tmp_path / "membership")
    assert (found.status, found.measured) == ("ill", {"free_bytes": 2**30})
    (tmp_path / name).write_text(f"{2**62}\n")
    assert "allowed" not in find_memory(tmp_path, tmp_path / "membership").found


def test_too_few_open_files_are_found():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        found = find_open_files()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (found.status, found.found) == ("ill", "200 at once")


def test_a_disk_without_room_is_found(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(disk, "MIN_FREE_BYTES", 2**60)
    assert one(disk.look_at_disk(DoctorConfig(out=tmp_path)), "disk").status == "ill"


def test_a_disk_that_refuses_to_take_a_file_is_found(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        (found,) = disk.look_at_disk(DoctorConfig(out=tmp_path / "new"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found.status == "ill"
    assert found.found.endswith("but a file cannot be written: File too large")


def test_locks_that_keep_nobody_apart_are_found(tmp_path: Path, monkeypatch):
    assert disk.find_locks(tmp_path).status == "well"
    monkeypatch.setattr(disk, "TRY_LOCK", "pass")
    assert disk.find_locks(tmp_path).found == "two processes can lock the same file"
    monkeypatch.setattr(disk, "TRY_LOCK", "raise OSError(37, 'No locks available')")
    assert disk.find_locks(tmp_path).found == "OSError: [Errno 37] No locks available"


# --- shards and pictures


def test_every_shard_that_is_missing_or_cut_short_is_counted(shard_set: ShardSet, tmp_path: Path):
    damaged = shutil.copytree(shard_set.path, tmp_path / "set")
    first, second, *_ = sorted((damaged / "train").glob("*.tar"))
    first.unlink()
    os.truncate(second, 1000)
    (found,) = look_at_data(DoctorConfig(data=damaged))
    assert (found.status, found.found) == ("ill", f"{damaged}: 2 missing or cut short: {first} …")
    assert "alexnet preprocess repair" in found.advice


def test_a_changed_dataset_json_is_found_with_its_advice(shard_set: ShardSet, tmp_path: Path):
    changed = shutil.copytree(shard_set.path, tmp_path / "set")
    text = (changed / "dataset.json").read_text()
    (changed / "dataset.json").write_text(text.replace('"num_dropped": 0', '"num_dropped": 1'))
    (found,) = look_at_data(DoctorConfig(data=changed))
    assert "does not match its own digest" in found.found
    assert found.advice == "restore it"


def test_speed_out_of_memory_is_called_so(shard_set: ShardSet, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("pipeline.launch.doctor.reading.stays_cached", lambda _: True)
    assert "100% of it from memory" in one(look_at_data(DoctorConfig(data=shard_set.path)), "shard speed").found


def test_a_source_without_pictures_is_found(pictures: Path, tmp_path: Path):
    assert one(look_at_source(DoctorConfig(source=pictures)), "source").measured["bytes_per_second"] > 0
    assert one(look_at_source(DoctorConfig(source=tmp_path)), "source").status == "ill"
    found = one(look_at_source(DoctorConfig(source=tmp_path / "nowhere")), "source")
    assert found.found == f"{tmp_path / 'nowhere'} does not exist"


# --- MLflow


@pytest.fixture
def own_environment(monkeypatch) -> None:
    """What the look sets for its process is undone."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


class Guarded(http.server.BaseHTTPRequestHandler):
    """Well by `/health`, and closed to everybody by its API, as MLflow is to names that it does not know."""

    def do_GET(self) -> None:
        self._answer(200, b"OK")

    def do_POST(self) -> None:
        self._answer(403, b"Invalid Host header - possible DNS rebinding attack detected")

    def _answer(self, code: int, text: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_only_its_health_route_calls_well_is_ill(own_environment):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever).start()
        uri = f"http://someone:secret@127.0.0.1:{server.server_port}"
        found = one(look_at_mlflow(DoctorConfig(tracking_uri=uri)), "MLflow server")
        server.shutdown()
    assert (found.status, found.advice) == ("ill", "start it with --allowed-hosts naming this address")
    assert "Invalid Host header" in found.found
    assert "secret" not in found.found


def test_a_port_without_a_server_is_found(own_environment, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
        found = one(look_at_mlflow(NOTHING_ASKED), "MLflow server")
    assert found.status == "ill"
    assert found.found.endswith(": [Errno 111] Connection refused")


def test_an_sqlite_file_is_opened_but_not_made(own_environment, finished_run: Path, tmp_path: Path):
    new = DoctorConfig(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert one(look_at_mlflow(new), "MLflow server").status == "skipped"
    assert list(tmp_path.iterdir()) == []
    there = DoctorConfig(tracking_uri=f"sqlite:///{finished_run.parent}/mlflow.db")
    assert one(look_at_mlflow(there), "MLflow server").status == "well"


def test_an_sqlite_file_on_a_network_s_disk_is_warned_of(own_environment, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("pipeline.launch.doctor.server.find_file_system", lambda _: "nfs4")
    found = one(look_at_mlflow(DoctorConfig(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")), "MLflow server")
    assert (found.status, found.found) == ("ill", f"{tmp_path}/mlflow.db lies on nfs4, where sqlite loses data")


# --- Slurm, whose answers are those of a real one in tests/slurm


def test_a_machine_without_slurm_is_no_worse_for_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [found.status for found in slurm.look_at_slurm(NOTHING_ASKED)] == ["skipped"]


def test_a_controller_that_does_not_answer_is_given_up_soon(tmp_path: Path, monkeypatch):
    write_command(tmp_path, "sbatch")
    write_command(tmp_path, "scontrol", "exec /bin/sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 0.5)
    (found,) = slurm.look_at_slurm(NOTHING_ASKED)
    assert (found.status, found.found) == ("ill", "scontrol got no answer within 0.5 s")


# --- several nodes


def test_nodes_that_agree_share_a_line_and_others_are_named():
    lines = merge(
        {
            "a": [well("torch", "2.14"), well("memory", "8 free", free_bytes=8), ill("shards", "gone", "mount it")],
            "b": [well("torch", "2.14"), well("memory", "5 free", free_bytes=5), well("shards", "whole")],
        }
    )
    assert lines == [
        Line(nodes=("a", "b"), finding=well("torch", "2.14")),
        Line(nodes=("a", "b"), finding=well("memory", "5 free", free_bytes=5), least=True),
        Line(nodes=("a",), finding=ill("shards", "gone", "mount it")),
        Line(nodes=("b",), finding=well("shards", "whole")),
    ]
    assert format_table(lines) == [
        "✓ torch            2.14",
        "✓ memory           5 free (the least of all nodes)",
        "✗ shards           a: gone",
        "                   → mount it",
        "✓ shards           b: whole",
    ]


def test_clocks_apart_and_locks_unseen_are_found():
    reports = [
        RankReport(node="a", clock=100.0, findings=(), sees_lock=True),
        RankReport(node="b", clock=104.5, findings=(), sees_lock=False),
    ]
    clocks, locks = judge_nodes(reports, Path("/runs"))
    assert (clocks.status, clocks.found) == ("ill", "differ by 4.50 s")
    assert (locks.status, locks.found) == ("ill", "a lock at /runs is not seen on b")
    assert [found.subject for found in judge_nodes(reports, None)] == ["clocks"]


@pytest.mark.distributed
def test_three_ranks_sum_and_count_bandwidth_as_nccl_tests_do():
    result = run_ranks("doctor", "--all-reduce", "--json", processes=3)
    assert result.returncode == 0, result.stderr
    (found,) = json.loads(result.stdout)["findings"]
    assert found["found"].startswith("3 ranks by gloo")
    for size in ("1_mib", "16_mib"):
        algorithm = found["measured"][f"algorithm_bytes_per_second_{size}"]
        assert algorithm > 0
        assert found["measured"][f"bus_bytes_per_second_{size}"] == pytest.approx(algorithm * 4 / 3)


def pretend_node(rank: int, *, folder: Path) -> None:
    """A rank is one of the node `a`, or `b`."""
    node = "ab"[rank]
    os.environ |= {
        FOLDER_VARIABLE: str(folder / node),
        "SLURMD_NODENAME": node,
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }


@pytest.mark.distributed
def test_ranks_bring_along_what_their_nodes_found(tmp_path: Path):
    for node in "ab":
        write_json(tmp_path / node / "own.json", (well("torch", "2.14"), well("driver", f"of {node}")))
    prepare = functools.partial(pretend_node, folder=tmp_path)
    result = run_ranks("doctor", "--all-reduce", "--out", str(tmp_path / "runs"), processes=2, prepare=prepare)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    lines = from_json((tmp_path / "a" / "gathered.json").read_text(), list[Line], tmp_path)
    assert [line.finding.subject for line in lines] == [
        "torch",
        "driver",
        "driver",
        "all-reduce",
        "clocks",
        "shared locks",
    ]
    assert {line.finding.status for line in lines} == {"well"}
    assert [line.nodes for line in lines[:3]] == [("a", "b"), ("a",), ("b",)]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "gathered.json",
        "own.json",
        "own.json",
    ]
