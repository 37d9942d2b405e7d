"""Who may write a shard set, or a part of it."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pipeline.artifacts import WORK_FOLDER, TakenError, find_holder, hold
from pipeline.errors import InputError


def whole_lock(out: Path) -> Path:
    """Lock of the whole shard set: shared by parts, held alone by a run without parts and by the merge."""
    return out / WORK_FOLDER / "lock"


def plan_lock(out: Path) -> Path:
    """Lock of the one that looks through the source."""
    return out / WORK_FOLDER / "plan.lock"


def merge_lock(out: Path) -> Path:
    """Lock of the one that merges, for which those that start wait: it is a matter of seconds."""
    return out / WORK_FOLDER / "merge.lock"


def part_lock(out: Path, part: tuple[int, int]) -> Path:
    """Lock of one part, (number from 0, how many)."""
    return out / WORK_FOLDER / f"part-{part[0]}-of-{part[1]}.lock"


def find_parts_at_work(out: Path) -> dict[str, str]:
    """The parts that are being written, such as `0/4`, and by whom."""
    found = {}
    for path in sorted((out / WORK_FOLDER).glob("part-*.lock")):
        if holder := find_holder(path):
            number, num_parts = re.findall(r"\d+", path.stem)
            found[f"{number}/{num_parts}"] = holder
    return found


@contextmanager
def claim(out: Path, part: tuple[int, int]) -> Iterator[None]:
    """Make a part of a shard set, or all of it where there is one part, this process's own.

    Raises:
        InputError: another process is at work on it.
    """
    with ExitStack() as stack:
        try:
            with hold(merge_lock(out), shared=True, wait=True):
                stack.enter_context(hold(whole_lock(out), shared=part[1] > 1))
            if part[1] > 1:
                stack.enter_context(hold(part_lock(out, part)))
        except TakenError as error:
            parts = find_parts_at_work(out)
            name = f"{part[0]}/{part[1]}"
            what = f"part {name} of {out}" if name in parts else f"--out {out}"
            holders = [f"part {other}: {holder}" for other, holder in parts.items()]
            who = parts.get(name) or ", ".join(holders) or error
            raise InputError(f"{what} is being written ({who}): wait for it, or choose another") from error
        yield


@contextmanager
def claim_if_alone(out: Path) -> Iterator[bool]:
    """Hold the whole shard set if no other process is at work on it; yields whether."""
    with hold(merge_lock(out), wait=True), ExitStack() as stack:
        alone = False
        with suppress(TakenError):
            stack.enter_context(hold(whole_lock(out)))
            alone = True
        yield alone
