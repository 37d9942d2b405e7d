"""A submission is taken out of the queue; its record stays."""

from pipeline.artifacts import to_json
from pipeline.options.submit import ChainConfig
from pipeline.submit import slurm
from pipeline.submit.record import find_records
from pipeline.submit.states import read_queue


def take_down(config: ChainConfig) -> None:
    """Cancel the jobs that still wait or run, the last ones first, and say which.

    Raises:
        InputError: nothing was submitted, or there is no Slurm.
        RunError: Slurm does not answer, or refuses.
    """
    records = find_records(config.path.absolute())
    names = {job.id: job.name for record in records for submission in record.submissions for job in submission.jobs}
    queue = read_queue(list(names))
    alive = [job_id for job_id, tasks in queue.items() if any(task.is_alive for task in tasks)]
    alive.sort(key=int, reverse=True)
    if alive:
        slurm.cancel(alive)
    if config.json:
        print(to_json({"cancelled": {job_id: names[job_id] for job_id in alive}}).decode())
        return
    listed = ", ".join(f"{names[job_id]} ({job_id})" for job_id in alive)
    print(f"submit: cancelled {listed}" if alive else "submit: no job is left in the queue")
