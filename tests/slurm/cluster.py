"""A real Slurm cluster inside one machine: a controller and nodes with names, addresses and pretended GPUs of their own."""

import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from machine import Machine

CONFIGURATION = """\
ClusterName=test
SlurmctldHost=login({login})
SlurmUser=root
AuthInfo=socket={folder}/munge/socket,cred_expire={requeue_seconds}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
MailProg=/bin/true
MpiDefault=none
# no cgroups and no binding to cores: a node claims more cores than there are
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
EnforcePartLimits=ALL
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=1
JobRequeue=1
ReturnToService=2
# a crash is noticed soon, and the job starts again soon
SlurmdTimeout={slurmd_timeout}
MessageTimeout={message_timeout}
TCPTimeout=1
BatchStartTimeout=10
KillWait=5
MinJobAge=3600
{jobs}
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 State=UP
PartitionName=short Nodes=node1 MaxTime=1 State=UP
PartitionName=closed Nodes=ALL State=DOWN
"""
