"""What the doctor finds between ranks and nodes, and how it starts and ends the ranks."""

import contextlib
import functools
import json
import os
import sys
import time
from pathlib import Path

import pytest
from findings import write_command
from ranks import run_ranks

from pipeline.artifacts import from_json, hold, write_json
from pipeline.errors import RunError
from pipeline.launch.doctor import exchange
from pipeline.launch.doctor.exchange import FOLDER_VARIABLE, ask_ranks, meet
from pipeline.launch.doctor.finding import Line, well
from pipeline.launch.doctor.network import RankReport, find_nccl_network, find_unused_infiniband, judge_nodes
from pipeline.options import DoctorConfig


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


@pytest.mark.parametrize("beside_another", [False, True], ids=["alone", "beside another doctor"])
@pytest.mark.distributed
def test_ranks_bring_along_what_their_nodes_found(beside_another: bool, tmp_path: Path):
    for node in "ab":
        write_json(tmp_path / node / "own.json", (well("torch", "2.14"), well("driver", f"of {node}")))
    prepare = functools.partial(pretend_node, folder=tmp_path)
    with contextlib.ExitStack() as stack:
        if beside_another:
            stack.callback((tmp_path / ".alexnet-doctor.lock").unlink)
            stack.enter_context(hold(tmp_path / ".alexnet-doctor.lock"))
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


@pytest.mark.parametrize(
    ("said", "network"), [("Using network Socket", "Socket"), ("Using network IB", "IB"), ("", "")]
)
def test_the_network_of_nccl_is_what_its_log_names_last_of_all(said: str, network: str, tmp_path: Path):
    start = "n1:7:7 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.1<0>\n"
    (tmp_path / "nccl-7").write_text(f"{start}n1:7:7 [0] NCCL INFO {said}\n")
    assert find_nccl_network(tmp_path) == network
    assert find_nccl_network(None) == ""


@pytest.mark.parametrize(
    ("network", "state", "is_ill"),
    [("Socket", "4: ACTIVE", True), ("IB", "4: ACTIVE", False), ("Socket", "1: DOWN", False)],
)
def test_an_infiniband_that_nccl_leaves_aside_is_found(network, state, is_ill, tmp_path: Path):
    port = tmp_path / "mlx5_0" / "ports" / "1"
    port.mkdir(parents=True)
    (port / "state").write_text(f"{state}\n")
    found = find_unused_infiniband(network, tmp_path)
    assert (found is not None) == is_ill
    assert found is None or found.found == "NCCL goes over sockets, although mlx5_0 is there and active"


# --- ranks that do not come to a good end


@pytest.fixture
def two_nodes(monkeypatch) -> None:
    """This process is a task of two, on the node `b`."""
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    monkeypatch.setenv("SLURMD_NODENAME", "b")


@pytest.mark.parametrize(
    ("said", "code", "found", "advice"),
    [
        (
            "Traceback (most recent call last):\n  …\nModuleNotFoundError: No module named 'torch'\n\n",
            1,
            "ModuleNotFoundError: No module named 'torch'",
            exchange.NETWORK_ADVICE,
        ),
        (
            "noise\nalexnet torchrun: 4 tasks on 2 nodes: start one per node\nnoise",
            2,
            "4 tasks on 2 nodes",
            "start one per node",
        ),
        ("", 69, "the ranks ended with 69", exchange.NETWORK_ADVICE),
    ],
)
def test_ranks_that_fail_are_told_of_beside_what_this_node_found(
    two_nodes, said, code, found, advice, tmp_path: Path, monkeypatch
):
    (tmp_path / "said").write_text(said)
    monkeypatch.setattr(
        sys, "executable", str(write_command(tmp_path, "python", f"cat {tmp_path}/said >&2", f"exit {code}"))
    )
    own, network = meet([well("torch", "2.14")], DoctorConfig())
    assert own == Line(nodes=("b",), finding=well("torch", "2.14"))
    assert (network.nodes, network.finding.subject, network.finding.status) == (("b",), "all-reduce", "ill")
    assert (network.finding.found, network.finding.advice) == (found, advice)


def test_ranks_that_hang_are_killed_though_each_leads_a_session(two_nodes, tmp_path: Path, monkeypatch):
    script = write_command(tmp_path, "python", "setsid sleep 600 &", f"echo $! > {tmp_path}/rank", "wait")
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(exchange, "NETWORK_SECONDS", 3)
    with pytest.raises(RunError, match="did not come to an end within 3 s"):
        ask_ranks([], DoctorConfig())
    rank = Path("/proc", (tmp_path / "rank").read_text().strip())
    for _ in range(100):
        if not rank.exists() or "(zombie)" in (rank / "status").read_text():
            return
        time.sleep(0.1)
    raise AssertionError("the rank is still there")


def test_ranks_that_all_end_well_and_leave_nothing_let_another_node_speak(two_nodes, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(write_command(tmp_path, "python", "exit 0")))
    assert meet([well("torch", "2.14")], DoctorConfig()) == []
