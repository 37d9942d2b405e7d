"""What the scripts of jobs make of a site's file. `srun` writes down what it gets; real jobs are in tests/slurm."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEP = ["--export=ALL", "--kill-on-bad-exit=1", "--cpus-per-task=2"]


@pytest.fixture
def run_script(tmp_path):
    """Runs `report.sbatch` as Slurm would, with the lines of a site's file; returns how it ended, and srun's words."""

    def run_script(*lines: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        site, tools = tmp_path / "site.env", tmp_path / "tools"
        site.write_text("".join(f"{line}\n" for line in lines))
        tools.mkdir()
        (tools / "srun").write_text(
            f'#!/usr/bin/env bash\nprintf "%s\\n" "$@" > {tmp_path}/words\nenv > {tmp_path}/environment\n'
        )
        (tools / "srun").chmod(0o755)
        told = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NAME": "job", "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "2"}
        told |= {"ALEXNET_SITE": str(site), "PATH": f"{tools}:{os.environ['PATH']}"}
        ended = subprocess.run(
            ["bash", str(ROOT / "slurm" / "report.sbatch"), "runs/a b"],
            env=os.environ | told | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        words = tmp_path / "words"
        return ended, words.read_text().splitlines() if words.is_file() else []

    return run_script


def read_environment(folder: Path) -> dict[str, str]:
    """Variables of the step."""
    return dict(line.split("=", 1) for line in (folder / "environment").read_text().splitlines() if "=" in line)


def test_without_an_image_the_environment_of_the_checkout_comes_first(run_script, tmp_path):
    ended, words = run_script(f"PYTHON_ENV={sys.prefix}")
    assert ended.returncode == 0, ended.stderr
    assert words == [*STEP, "alexnet", "report", "runs/a b"]
    assert read_environment(tmp_path)["PATH"].startswith(f"{sys.prefix}/bin:")


def test_pyxis_gets_image_mounts_and_folder(run_script, tmp_path):
    ended, words = run_script(
        "CONTAINER_IMAGE=/images/alexnet.sqsh", "CONTAINER_MOUNTS=/data:/data:ro", PYTHONPATH="/mine"
    )
    assert ended.returncode == 0, ended.stderr
    container = ["--container-image=/images/alexnet.sqsh", f"--container-mounts={ROOT}:{ROOT},/data:/data:ro"]
    assert words == [*STEP, *container, f"--container-workdir={ROOT}", "alexnet", "report", "runs/a b"]
    environment = read_environment(tmp_path)
    assert (environment["PYTHONSAFEPATH"], "PYTHONPATH" in environment) == ("1", False)


def test_apptainer_runs_within_the_step(run_script):
    ended, words = run_script("CONTAINER_IMAGE=/images/alexnet.sif", "CONTAINER_RUNTIME=apptainer")
    assert ended.returncode == 0, ended.stderr
    inside = shlex.split(f"apptainer exec --nv --bind {ROOT}:{ROOT} --pwd {ROOT} /images/alexnet.sif")
    assert words == [*STEP, *inside, "alexnet", "report", "runs/a b"]


def test_what_the_job_was_submitted_with_goes_before_the_site_s_file(run_script, tmp_path):
    lines = (f"PYTHON_ENV={sys.prefix}", "RANKS_PER_NODE=2", 'NCCL_DEBUG="WARN"', "NETWORK_INTERFACE=ib0")
    run_script(*lines, RANKS_PER_NODE="4")
    environment = read_environment(tmp_path)
    assert (environment["RANKS_PER_NODE"], environment["NCCL_DEBUG"]) == ("4", "WARN")
    assert environment["GLOO_SOCKET_IFNAME"] == environment["NCCL_SOCKET_IFNAME"] == "ib0"


def test_no_setting_of_nccl_or_gloo_is_made_unless_the_site_names_one(run_script, tmp_path):
    run_script(f"PYTHON_ENV={sys.prefix}")
    assert [name for name in read_environment(tmp_path) if name.startswith(("NCCL_", "GLOO_", "TORCH_NCCL"))] == []


def test_modules_are_loaded_in_their_order_by_a_command_that_minds_no_unset_variable(run_script, tmp_path):
    module = {"BASH_FUNC_module%%": f'() {{ echo "$@$UNSET" > "{tmp_path}/modules"; }}'}
    run_script(f"PYTHON_ENV={sys.prefix}", 'MODULES="cuda/13 gcc/12"', **module)
    assert (tmp_path / "modules").read_text() == "load cuda/13 gcc/12\n"


@pytest.mark.parametrize(
    ("lines", "variables", "sentence"),
    [
        (
            ["PYTHON_ENV=/nowhere"],
            {},
            "/nowhere has no alexnet: run `make setup`, or name PYTHON_ENV or CONTAINER_IMAGE in",
        ),
        (["MODULES=cuda/13"], {}, "MODULES is set in"),
        (["CONTAINER_IMAGE=x", "CONTAINER_RUNTIME=podman"], {}, "CONTAINER_RUNTIME is podman in"),
        (
            [],
            {"ALEXNET_SITE": "/nowhere.env"},
            "/nowhere.env, which ALEXNET_SITE names, is not there: see slurm/site.env.example",
        ),
    ],
)
def test_what_cannot_work_is_a_sentence_and_code_2(run_script, lines, variables, sentence):
    ended, words = run_script(*lines, **variables)
    assert (ended.returncode, words) == (2, [])
    assert ended.stderr.startswith(f"job: {sentence}")
    assert ended.stderr.count("\n") == 1


def test_a_line_of_the_site_s_file_that_is_no_setting_is_named(run_script):
    ended, words = run_script("MODULES=cuda/13 gcc/12", "RANKS_PER_NODE=2")
    assert (ended.returncode, words) == (2, [])
    said = (
        r'job: .*/site.env: line 1: gcc/12: No such file or directory: lines are NAME=value, or NAME="several words"\n'
    )
    assert re.fullmatch(said, ended.stderr)


def test_outside_of_the_repository_the_script_says_what_it_misses(tmp_path):
    script = ROOT / "slurm" / "train.sbatch"
    environment = os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path)}
    ended = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"{tmp_path}/slurm/job.sh: No such file or directory" in ended.stderr
    assert ended.stderr.count("\n") == 1


STOPPED, MISTAKE, DISK_FULL = "75 alexnet train: stopped", "2 alexnet train: no such data", "1 alexnet train: disk full"
LOST, HUNG = "69 alexnet train: rank 1 lost another", "124 alexnet train: nothing moved"


@pytest.fixture
def run_train(tmp_path):
    """Runs `train.sbatch` with what ranks leave at each start; returns its exit code, words, starts and requeues."""

    def run_train(*endings: str, **variables: str) -> tuple[int, str, int, int]:
        tools, plan = tmp_path / "tools", tmp_path / "plan"
        tools.mkdir()
        plan.mkdir()
        for number, ending in enumerate(endings):
            (plan / str(number)).write_text(ending)
        programs = {
            "srun": f"""
                number=$(ls {tmp_path}/starts 2>/dev/null | wc -l); mkdir -p {tmp_path}/starts/$number
                ending=$(cat {plan}/$number)
                [ "$ending" = done ] && exit 0
                echo "$ending" | while read -r code rest; do
                    [ -z "$code" ] || echo "$code $rest" > "$ALEXNET_ENDINGS/rank-0.$code"
                done
                exit 143""",
            "scontrol": f"""
                [ "$1" = requeue ] || exec echo "JobState=${{STATE:-RUNNING}}"
                echo "$2" >> {tmp_path}/requeues""",
        }
        for name, body in programs.items():
            (tools / name).write_text(f"#!/usr/bin/env bash{body}\n")
            (tools / name).chmod(0o755)
        told = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NAME": "job", "SLURM_JOB_ID": "7", "PYTHON_ENV": sys.prefix}
        told |= {"SLURM_JOB_NUM_NODES": "1"}
        ended = subprocess.run(
            ["bash", str(ROOT / "slurm" / "train.sbatch"), "source-2012", f"--out={tmp_path / 'run'}"],
            env=os.environ | told | {"PATH": f"{tools}:{os.environ['PATH']}"} | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        requeues = tmp_path / "requeues"
        num_requeues = len(requeues.read_text().split()) if requeues.is_file() else 0
        return ended.returncode, ended.stderr, len(list((tmp_path / "starts").iterdir())), num_requeues

    return run_train


@pytest.mark.parametrize(
    ("endings", "code", "starts", "requeues"),
    [
        (["done"], 0, 1, 0),
        ([STOPPED], 75, 1, 1),
        ([MISTAKE], 2, 1, 0),
        ([DISK_FULL], 1, 1, 0),
        ([f"{LOST}\n{DISK_FULL}\n{MISTAKE}"], 2, 1, 0),
        (["", "done"], 0, 2, 0),
        ([LOST, HUNG, "done"], 0, 3, 0),
        ([LOST, STOPPED], 75, 2, 1),
        ([LOST, MISTAKE], 2, 2, 0),
        (["", "", "", ""], 1, 4, 0),
    ],
)
def test_what_ranks_leave_decides_whether_the_job_ends_is_requeued_or_starts_them_again(
    run_train, endings, code, starts, requeues
):
    assert [value for value in run_train(*endings) if isinstance(value, int)] == [code, starts, requeues]


def test_a_mistake_is_the_last_word_of_the_log(run_train):
    _, said, _, _ = run_train(LOST, MISTAKE)
    assert said.splitlines() == [
        "job: a rank was killed, hung, or lost its node (start 1 of at most 4 in this job)",
        "job: alexnet train: no such data",
    ]


def test_a_job_requeues_itself_so_often_and_no_more(run_train):
    code, said, _, requeues = run_train(STOPPED, SLURM_RESTART_COUNT="5", MAX_REQUEUES="5")
    assert (code, requeues) == (75, 0)
    assert said == "job: interrupted after 5 requeues: submit it again to go on, or raise MAX_REQUEUES\n"


def test_a_job_that_slurm_is_ending_does_not_requeue_itself(run_train):
    code, said, _, requeues = run_train(STOPPED, STATE="COMPLETING")
    assert (code, requeues) == (75, 0)
    assert said == "job: ended by Slurm, which may requeue it; submit it again to go on if it does not\n"


def test_ranks_that_die_are_started_again_as_often_as_the_job_is_told(run_train):
    code, said, starts, _ = run_train("", "", MAX_RESTARTS="1")
    assert (code, starts) == (1, 2)
    assert said.endswith("job: ended 2 times: look at the log above, then submit it again to go on\n")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_is_passed_on_until_the_ranks_have_ended_and_the_job_is_requeued(tmp_path, number):
    tools = tmp_path / "tools"
    tools.mkdir()
    programs = {
        "srun": f"""
            trap 'echo "75 stopped" > "$ALEXNET_ENDINGS/rank-0.75"; exit 143' TERM
            echo $$ > {tmp_path}/step.new; mv {tmp_path}/step.new {tmp_path}/step
            while true; do sleep 0.05; done""",
        "scancel": f"""
            echo "$@" >> {tmp_path}/told
            [ "$(wc -l < {tmp_path}/told)" -lt 2 ] || kill -TERM $(cat {tmp_path}/step)  # the first comes too early""",
        "scontrol": f"""
            [ "$1" = requeue ] || exec echo JobState=RUNNING
            echo "$2" >> {tmp_path}/requeues""",
    }
    for name, body in programs.items():
        (tools / name).write_text(f"#!/usr/bin/env bash{body}\n")
        (tools / name).chmod(0o755)
    told = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NAME": "job", "SLURM_JOB_ID": "9", "PYTHON_ENV": sys.prefix}
    told |= {"SLURM_JOB_NUM_NODES": "1", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    script = ["bash", str(ROOT / "slurm" / "train.sbatch"), "source-2012", f"--out={tmp_path / 'run'}"]
    environment = os.environ | told | {"PATH": f"{tools}:{os.environ['PATH']}"}
    job = subprocess.Popen(script, env=environment, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 60
    while not (tmp_path / "step").is_file():
        assert time.monotonic() < limit
        time.sleep(0.02)
    job.send_signal(number)
    said = job.communicate(timeout=60)[1]
    assert (job.returncode, (tmp_path / "requeues").read_text()) == (75, "7_2\n"), said
    assert (tmp_path / "told").read_text() == "--quiet --signal=TERM 7_2\n" * 2
