"""How `pytest -n` shares the tests out: file by file, so that each process makes few of the things that tests share."""

from xdist.scheduler import LoadScopeScheduling

ONE_CLUSTER = "tests/slurm"


class FileByFile(LoadScopeScheduling):
    """The tests of a file run in one process, one after the other; so do all of those that share a Slurm cluster."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", maxsplit=1)[0]
        return ONE_CLUSTER if path.startswith(f"{ONE_CLUSTER}/") else path
