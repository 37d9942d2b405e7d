"""One world of ranks on this node or over those of a Slurm step, and the exit code that it ends with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import SMALL_FLAGS

from pipeline.artifacts import ShardSet
from pipeline.errors import InputError
from pipeline.launch.torchrun import FIRST_PORT, NUM_PORTS, find_node, split_words

STEP = {
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NODEID": "1",
    "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1",
    "SLURM_GPUS_ON_NODE": "4",
}
LIMIT_SECONDS = 240


def list_options(**changes: str) -> dict[str, str]:
    """What torchrun is told in a step, as flag → value."""
    options = find_node(STEP | changes, None).list_options()
    return dict(zip(options[::2], options[1::2], strict=True))


def test_a_node_of_a_step_meets_the_others_where_srun_ran_at_a_port_of_the_job():
    port = FIRST_PORT + 1234567 % NUM_PORTS
    assert list_options() == {
        "--nnodes": "2",
        "--nproc-per-node": "4",
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": f"127.0.0.1:{port}",
        "--rdzv-id": "1234567-0-0",
        "--rdzv-conf": "is_host=0,join_timeout=600,read_timeout=600",
        "--local-addr": "127.0.0.1",
    }
    assert port < 32768


def test_the_first_node_hosts_the_meeting_and_each_life_of_a_job_has_its_own():
    first = list_options(SLURM_NODEID="0", SLURM_RESTART_COUNT="2", SLURM_STEP_ID="3")
    assert first["--rdzv-conf"] == "is_host=1,join_timeout=600,read_timeout=600"
    assert first["--rdzv-id"] == "1234567-2-3"


@pytest.mark.parametrize(
    ("variables", "asked", "ranks"),
    [({}, None, 4), ({"RANKS_PER_NODE": "2"}, None, 2), ({"RANKS_PER_NODE": "2"}, 3, 3)],
)
def test_ranks_are_as_asked_or_as_the_site_says_or_one_for_each_gpu_of_slurm(variables, asked, ranks):
    assert find_node(STEP | variables, asked).ranks_per_node == ranks


@pytest.mark.parametrize(
    "variables", [{}, {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2"}, STEP | {"SLURM_STEP_NUM_NODES": "1"}]
)
def test_outside_of_a_step_of_several_nodes_this_node_is_a_world(variables):
    node = find_node(variables, 2)
    assert node.list_options() == ["--standalone", "--nnodes", "1", "--nproc-per-node", "2"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SLURM_STEP_NUM_TASKS": "8"}, "srun started 8 tasks on 2 nodes: start one per node with --ntasks-per-node=1"),
        ({"RANKS_PER_NODE": "many"}, "RANKS_PER_NODE is 'many': set it to the number of ranks per node"),
        ({"SLURM_GPUS_ON_NODE": "0"}, "SLURM_GPUS_ON_NODE is '0': set it to the number of ranks per node"),
    ],
)
def test_a_step_that_would_make_another_world_is_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        find_node(STEP | changes, None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name the command that every rank runs, such as `train source-2012 …`, found nothing"),
        (["--nproc-per-node"], "--nproc-per-node needs the number of ranks per node"),
        (["--nproc-per-node=0", "train"], "--nproc-per-node must be a positive number, found '0'"),
        (["--nproc-per-node", "two", "train"], "--nproc-per-node must be a positive number, found 'two'"),
        (["--nnodes", "2", "train"], "--nnodes is unknown: only --nproc-per-node N may stand before the command"),
        (["--nproc-per-nodes", "2", "train"], "--nproc-per-nodes"),
    ],
)
def test_words_that_name_no_ranks_or_no_command_are_refused(words, sentence):
    with pytest.raises(InputError, match=sentence):
        split_words(words)


def test_words_are_split_into_ranks_and_command():
    assert split_words(["--nproc-per-node=2", "train", "--out", "x"]) == (2, ["train", "--out", "x"])
    assert split_words(["--nproc-per-node", "2", "train"]) == (2, ["train"])
    assert split_words(["evaluate", "runs/a"]) == (None, ["evaluate", "runs/a"])


def start(*words: str, **variables: str) -> subprocess.Popen[str]:
    """`alexnet torchrun WORDS`, as a user starts it."""
    environment = {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": "nowhere://", **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "torchrun", *words],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def list_train_words(shard_set: ShardSet, out: Path, *flags: str) -> tuple[str, ...]:
    """The words of a training that takes its time."""
    where = ("--data", str(shard_set.path), "--out", str(out), "--device=cpu", "--log-every=1")
    return ("train", "source-2012", *where, *SMALL_FLAGS, "--schedule.epochs=500", *flags)


def wait_for_report(process: subprocess.Popen[str], run: Path) -> None:
    """Until training has reported a step."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not (run / "journal.jsonl").is_file():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit, "no report"
        time.sleep(0.05)


def find_ranks(run: Path) -> list[int]:
    """Processes of the ranks that train into a run directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if str(run) in words and "torchrun" not in words:
            found.append(int(path.parent.name))
    return sorted(found)


@pytest.mark.distributed
def test_a_mistake_is_said_once_and_ends_it_with_code_2(shard_set, tmp_path):
    words = list_train_words(shard_set, tmp_path / "run", "--fc-parallel=3")
    said, mistakes = (process := start("--nproc-per-node=2", *words)).communicate(timeout=LIMIT_SECONDS)
    assert (process.returncode, said) == (2, "")
    assert mistakes == (
        "alexnet train: --fc-parallel 3 does not divide 2 processes: "
        "start a multiple of 3 with torchrun, or leave --fc-parallel out\n"
    )


@pytest.mark.distributed
def test_asked_to_stop_however_often_it_lets_the_ranks_end_and_has_their_code(shard_set, tmp_path):
    run = tmp_path / "run"
    process = start("--nproc-per-node=2", *list_train_words(shard_set, run, "--log-every=40"))
    wait_for_report(process, run)
    for _ in range(4):  # torchrun itself would leave its ranks behind at the third
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    said = process.communicate(timeout=LIMIT_SECONDS)[1]
    assert process.returncode == 75, said
    assert "a checkpoint is written: go on with --resume" in said
    assert "Traceback" not in said
    assert find_ranks(run) == []


@pytest.mark.distributed
def test_a_second_ctrl_c_ends_it_at_once(shard_set, tmp_path):
    run = tmp_path / "run"
    process = start("--nproc-per-node=2", *list_train_words(shard_set, run, "--log-every=40"))
    wait_for_report(process, run)
    process.send_signal(signal.SIGINT)
    assert any("Ctrl-C again stops at once" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=LIMIT_SECONDS)[1]
    assert process.returncode == 130, said
    assert "alexnet train: interrupted, the same command goes on" in said
    assert find_ranks(run) == []


@pytest.mark.distributed
def test_when_a_rank_is_killed_it_says_which_and_takes_the_others_with_it(shard_set, tmp_path):
    run = tmp_path / "run"
    process = start("--nproc-per-node=2", *list_train_words(shard_set, run))
    wait_for_report(process, run)
    os.kill(find_ranks(run)[-1], signal.SIGKILL)
    said = process.communicate(timeout=LIMIT_SECONDS)[1]
    assert process.returncode == 128 + signal.SIGKILL, said
    assert "was killed by SIGKILL\n" in said
    assert "Traceback" not in said
    assert find_ranks(run) == []


@pytest.mark.distributed
def test_two_nodes_of_a_step_train_as_one_world(shard_set, tmp_path):
    run = tmp_path / "run"
    words = list_train_words(shard_set, run, "--schedule.epochs=1")
    nodes = [
        start(*words, **STEP | {"SLURM_NODEID": str(number), "RANKS_PER_NODE": "1", "SLURM_JOB_ID": str(os.getpid())})
        for number in range(2)
    ]
    said = [node.communicate(timeout=LIMIT_SECONDS) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "1 epochs, 2 processes on cpu" in "".join(out for out, _ in said)


@pytest.mark.distributed
def test_a_world_of_another_size_than_was_asked_for_does_not_train(shard_set, tmp_path):
    words = list_train_words(shard_set, tmp_path / "run")
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        env=os.environ | {"ALEXNET_WORLD_SIZE": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "alexnet train: this world has 1 ranks and 4 were asked for, so the nodes would train apart" in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_step_that_was_not_started_on_its_first_node_is_refused_there():
    with pytest.raises(InputError, match=r"srun ran on 192\.0\.2\.7, which is not the first node of the step"):
        find_node(STEP | {"SLURM_NODEID": "0", "SLURM_LAUNCH_NODE_IPADDR": "192.0.2.7"}, None)
