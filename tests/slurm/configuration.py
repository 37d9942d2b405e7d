"""What Slurm and munge read: nodes that pretend to have more than the machine, and haste wherever Slurm would wait."""

import secrets
from pathlib import Path
from typing import Literal

LOGIN, LOGIN_ADDRESS = "login", "10.77.0.254"

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={login}({login_address})
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
MailProg=/bin/true
MpiDefault=none

# No cgroups and no binding: a node claims more cores and memory than there are.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100

# Jobs start at once; a crash is noticed within ten seconds, and a job starts again six seconds after it was requeued.
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=1
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmdTimeout=3
MessageTimeout=3
TCPTimeout=1
ReturnToService=2
JobRequeue=1
EnforcePartLimits=ALL
{accounting}

GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES State=UP
PartitionName=short Nodes=node1 MaxTime=1 State=UP
PartitionName=closed Nodes=ALL State=DOWN
"""


Names = Literal["everywhere", "own", "nowhere"]
"""Host names that a node can resolve: all; its own alone, as 127.0.1.1 like on Debian; none."""


def write_configuration(folder: Path, addresses: dict[str, str], gpus_per_node: int, *, accounting: bool) -> None:
    """Write what Slurm and munge read below `folder`."""
    for name in ("munge", "state", "spool", "gpus"):
        (folder / name).mkdir()
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    nodes = "\n".join(
        f"NodeName={name} NodeAddr={address} CPUs=64 RealMemory=64000 Gres=gpu:fake:{gpus_per_node}"
        for name, address in addresses.items()
    )
    ended_jobs = f"JobCompType=jobcomp/filetxt\nJobCompLoc={folder}/ended_jobs.txt" if accounting else ""
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            folder=folder, login=LOGIN, login_address=LOGIN_ADDRESS, nodes=nodes, accounting=ended_jobs
        )
    )
    # slurmd wants either a cgroup file system or this
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    lines = ["AutoDetect=off"]
    for number in range(gpus_per_node):
        gpu = folder / "gpus" / str(number)
        gpu.symlink_to("/dev/null")  # only a device file gets into CUDA_VISIBLE_DEVICES
        lines.append(f"Name=gpu Type=fake File={gpu}")
    (folder / "gres.conf").write_text("\n".join(lines) + "\n")


def write_hosts(folder: Path, addresses: dict[str, str], names: Names) -> None:
    """Write each machine's /etc/hosts as `hosts/NAME`."""
    (folder / "hosts").mkdir()
    everyone = {**addresses, LOGIN: LOGIN_ADDRESS}
    for name in everyone:
        known = {"everywhere": everyone, "own": {name: "127.0.1.1"}, "nowhere": {}}[names]
        lines = ["127.0.0.1 localhost", *(f"{address} {other}" for other, address in known.items())]
        (folder / "hosts" / name).write_text("\n".join(lines) + "\n")
