"""A real Slurm inside one machine: a login node, and nodes with names, addresses and pretended GPUs of their own."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from configuration import LOGIN, LOGIN_ADDRESS, Names, write_configuration, write_hosts
from machine import Machine

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "unshare", "nsenter")
SYSTEM_FOLDERS = "/usr/sbin:/sbin"
FINAL_STATES = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "DEADLINE")
FOLDERS, PREFIX = Path("/tmp"), "alexnet-slurm-"  # noqa: S108 - pytest's own are closed, and munged must be found


def find_missing() -> str | None:
    """What this machine lacks for a cluster, as a sentence; None if it can have one."""
    path = os.environ["PATH"] + ":" + SYSTEM_FOLDERS
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        packages = "slurmctld slurmd slurm-client munge iproute2"
        return f"{', '.join(missing)} not found: apt-get install -y --no-install-recommends {packages}"
    if os.geteuid() != 0:
        return "only root can give each node a network of its own"
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode:
        return "this container may not make namespaces: start it with --privileged"
    return None


def poll(condition: Callable[[], bool], *, timeout: float) -> bool:
    """Look until something holds; whether it held within `timeout` seconds."""
    end = time.monotonic() + timeout
    while not (holds := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return holds


class Cluster:
    """Slurm with its partitions `main` (all nodes), `short` (`node1`, one minute) and `closed` (down).

    Its machines are namespaces that end with this process, however that ends. Their addresses are in a network that
    nobody else sees, so that any number of clusters stand side by side. `close` removes the one folder that is left.

    Attributes:
        folder: configuration, logs and state.
        login: the machine of the controller, from which commands are given.
        nodes: machines by name, `node1` the first.
    """

    def __init__(
        self,
        *,
        num_nodes: int = 3,
        gpus_per_node: int = 2,
        names: Names = "everywhere",
        accounting: bool = False,
    ) -> None:
        """Start it, and wait until all nodes are idle.

        Args:
            num_nodes: machines beside `login`.
            gpus_per_node: pretended ones, of the type `fake`; CUDA_VISIBLE_DEVICES names them.
            names: host names that a node can resolve.
            accounting: keep a file of ended jobs, so that `sacct -c` lists them.
        """
        remove_stale_folders()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=FOLDERS))
        self.folder.chmod(0o755)
        self.environment = choose_environment(self.folder)
        addresses = {f"node{number}": f"10.77.0.{number}" for number in range(1, num_nodes + 1)}
        write_configuration(self.folder, addresses, gpus_per_node, accounting=accounting)
        write_hosts(self.folder, addresses, names)
        self._addresses = addresses
        self.nodes: dict[str, Machine] = {}
        self.login = Machine(LOGIN, self.folder / "hosts" / LOGIN)
        try:
            self.login.open_hub(f"{LOGIN_ADDRESS}/24")
            munge = self.folder / "munge"
            files = (("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("seed-file", "seed"))
            self.run("munged", *(f"--{flag}={munge / name}" for flag, name in (*files, ("log-file", "log"))))
            self.run("slurmctld")
            for name in addresses:
                self._switch_on(name)
            self.wait_until_idle()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all that runs on it, and remove its folder."""
        for machine in (*self.nodes.values(), self.login):
            machine.cut_off()
        shutil.rmtree(self.folder)

    def run(
        self,
        *words: str,
        machine: Machine | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        check: bool = True,
        timeout: float = 180,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the login node, or on another machine, as a user there would.

        Args:
            words: the command, like `squeue`.
            machine: where.
            cwd: its folder; that of the tests if not given.
            env: variables beside those of the tests, of which SLURM_* and SBATCH_* are left out.
            check: fail, with what it said, where its exit code is not 0.
            timeout: seconds.
        """
        ended = subprocess.run(
            (machine or self.login).enter(*words, cwd=cwd),
            env=self.environment | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and ended.returncode:
            raise AssertionError(f"{' '.join(words)}: exit code {ended.returncode}\n{ended.stdout}{ended.stderr}")
        return ended

    def submit(self, *words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        """The id of the job that `sbatch WORDS` makes."""
        return self.run("sbatch", "--parsable", *words, cwd=cwd, env=env).stdout.strip()

    def read_job(self, job_id: str) -> dict[str, str]:
        """What `scontrol show job` says of a job, or of one element of an array as in `7_1`."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.run("scontrol", "--oneliner", "show", "job", job_id).stdout))

    def wait_for(self, job_id: str, *states: str, timeout: float = 180) -> dict[str, str]:
        """What is said of a job once it is in one of the states; fails as soon as it has ended in another."""

        def has_come() -> bool:
            return self.read_job(job_id)["JobState"] in (*states, *FINAL_STATES)

        poll(has_come, timeout=timeout)
        job = self.read_job(job_id)
        if job["JobState"] not in states:
            raise AssertionError(f"job {job_id} is not {' or '.join(states)}:\n{self.describe(job_id)}")
        return job

    def describe(self, job_id: str) -> str:
        """A job's state, the end of its log and that of the controller's."""
        job = self.read_job(job_id)
        log, controller = Path(job["StdOut"]), self.folder / "slurmctld.log"
        lines = [f"{key}={job.get(key)}" for key in ("JobState", "Reason", "ExitCode", "Restarts", "NodeList")]
        for path, count in ((log, 60), (controller, 20)):
            text = path.read_text(errors="replace") if path.exists() else "(no such file)"
            lines += [f"--- {path}", *text.splitlines()[-count:]]
        return "\n".join(lines)

    def requeue(self, job_id: str) -> None:
        """Put a running job back into the queue, as pre-emption does; wait until it has left its nodes."""
        self.run("scontrol", "requeue", job_id)
        self.wait_for(job_id, "PENDING")

    def start_now(self, job_id: str) -> None:
        """Start a requeued job without the wait that Slurm gives it."""
        self.wait_for(job_id, "PENDING")
        time.sleep(1)  # sooner, it fails: "Job credential revoked"
        self.run("scontrol", "update", f"jobid={job_id}", "StartTime=now")

    def crash_node(self, name: str) -> None:
        """Cut a node's power; Slurm notices within ten seconds."""
        self.nodes[name].cut_off()

    def start_node(self, name: str) -> None:
        """Give a crashed node its power again, once Slurm has noticed that it had none; wait until it can be used."""
        if not poll(lambda: "DOWN" in self._read_state(name), timeout=180):
            raise AssertionError(f"nobody noticed that {name} is off: {self._read_state(name)}")
        self._switch_on(name)
        if not poll(lambda: "DOWN" not in self._read_state(name), timeout=120):
            raise AssertionError(f"{name} does not come back: {self._read_state(name)}")

    def wait_until_idle(self, *, timeout: float = 30) -> None:
        """Wait until no node that is on has work."""
        busy = [name for name, node in self.nodes.items() if node.is_on]
        if not poll(lambda: all(self._read_state(name) == "IDLE" for name in busy), timeout=timeout):
            states = {name: self._read_state(name) for name in busy}
            log = (self.folder / "slurmctld.log").read_text().splitlines()[-20:]
            raise AssertionError("\n".join((f"nodes are not idle: {states}", *log)))

    def list_processes(self) -> dict[int, str]:
        """Command lines of what runs on the nodes beside Slurm's daemon, by process id."""
        running = {number: line for node in self.nodes.values() for number, line in node.list_processes().items()}
        return {number: line for number, line in running.items() if not line.startswith("slurmd ")}

    def _switch_on(self, name: str) -> None:
        node = self.nodes[name] = Machine(name, self.folder / "hosts" / name)
        node.plug_into(self.login, f"{self._addresses[name]}/24")
        self.run("slurmd", "-N", name, machine=node)

    def _read_state(self, name: str) -> str:
        said = self.run("scontrol", "--oneliner", "show", "node", name).stdout
        return said.partition(" State=")[2].split()[0]


def remove_stale_folders() -> None:
    """Remove what clusters have left whose process is gone."""
    for folder in FOLDERS.glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)  # another one may be at it, too


def choose_environment(folder: Path) -> dict[str, str]:
    """Variables for commands on the cluster; no job asks for more time than the tests have."""
    others = ("SLURM_", "SBATCH_", "ALEXNET_", "MLFLOW_", "CUDA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    path = f"{os.environ['PATH']}:{SYSTEM_FOLDERS}"
    return kept | {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf"), "SBATCH_TIMELIMIT": "30"}
