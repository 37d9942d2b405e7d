"""States and reasons of Slurm in words."""

from pipeline.submit.states import TaskState

STATES = {
    "PENDING": "waits",
    "CONFIGURING": "starts",
    "RUNNING": "runs",
    "COMPLETING": "ends",
    "COMPLETED": "done",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "TIMEOUT": "ran out of time",
    "NODE_FAIL": "lost its node",
    "OUT_OF_MEMORY": "ran out of memory",
    "PREEMPTED": "pre-empted",
    "BOOT_FAIL": "node did not boot",
    "DEADLINE": "missed its deadline",
    "SUSPENDED": "suspended",
}
BROKEN_DEPENDENCY = ("DependencyNeverSatisfied", "Dependency")
"""Reasons of a job that was cancelled because one before it did not end well; or while it still waited for that."""
NEVER = {
    "PartitionNodeLimit": "it asks for more nodes than the partition gives to a job",
    "PartitionTimeLimit": "it asks for more time than the partition gives to a job",
    "DependencyNeverSatisfied": "a job before it did not end well",
    "BadConstraints": "no node is what it asks for",
    "AccountNotAllowed": "its account may not use the partition",
    "QOSNotAllowed": "its QOS may not use the partition",
    "InvalidAccount": "there is no such account",
    "InvalidQOS": "there is no such QOS",
}
"""Why a job waits that will wait for ever."""
REASONS = {
    "Priority": "other jobs come first",
    "Resources": "waits for nodes to become free",
    "Dependency": "waits for the jobs before it",
    "BeginTime": "is to begin later",
    "JobHeldUser": "held by its owner: scontrol release",
    "JobHeldAdmin": "held by an administrator",
    "JobArrayTaskLimit": "as many of the array run as may",
    "Licenses": "waits for a licence",
    "Reservation": "waits for its reservation",
    "PartitionDown": "the partition takes jobs and starts none: sinfo",
    "PartitionInactive": "the partition is closed: sinfo",
    "launch_failed_requeued_held": "could not start on its node and is held: scontrol release",
    "Prolog": "its node is being prepared",
    "Cleaning": "is being cleaned up after a requeue",
} | {reason: f"will never start: {why}" for reason, why in NEVER.items()}
BEGINNINGS = {
    "QOSMax": "a limit of the QOS is reached",
    "QOSGrp": "a limit of the QOS is reached by all its jobs together",
    "AssocMax": "a limit of the account is reached",
    "AssocGrp": "a limit of the account is reached by all its jobs together",
    "MaxJobs": "as many of your jobs run as may",
    "ReqNodeNotAvail": "nodes that it asks for are down, drained, or kept for maintenance: sinfo -R",
}
"""Families of reasons, by how their names begin."""


def explain(task: TaskState) -> str | None:
    """Why a job waits, or was cancelled, in words and then as Slurm calls it; unknown reasons as they are."""
    reason = task.reason
    if reason is None or not (task.is_waiting or task.state == "CANCELLED"):
        return None
    name = reason.split(",")[0]
    if task.state == "CANCELLED":
        return NEVER["DependencyNeverSatisfied"] if name == "DependencyNeverSatisfied" else None
    requeued = "was requeued, and Slurm waits two minutes" if name == "BeginTime" and task.restarts else None
    known = (
        requeued
        or REASONS.get(name)
        or next((words for start, words in BEGINNINGS.items() if name.startswith(start)), None)
    )
    until = f", {'begins' if name == 'BeginTime' else 'expected'} at {task.began:%H:%M on %d %B}" if task.began else ""
    return f"{known} ({reason}){until}" if known else f"{reason}{until}"
