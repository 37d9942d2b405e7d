"""`alexnet torchrun`: any command in several ranks, on this node or over those of a Slurm step."""

from pipeline.commands.command import Command

USAGE = """usage: alexnet torchrun [--nproc-per-node N] COMMAND ...

{summary}.

Without --nproc-per-node there are RANKS_PER_NODE ranks, or one for each GPU that Slurm gave or torch sees. Under srun,
with one task per node, all nodes of the step are one world; where they meet follows from Slurm's variables. Ends with
the ranks' own exit code: 2 for a mistake, 75 when stopped by a signal after a checkpoint, 124 when a rank hung."""


def start_torchrun(command: Command, words: list[str]) -> None:
    """Start the ranks of this node."""
    if words[:1] in (["-h"], ["--help"]):
        print(USAGE.format(summary=command.summary))
        return
    from pipeline.launch.torchrun import run_ranks, split_words

    num_ranks, rest = split_words(words)
    run_ranks(rest, num_ranks=num_ranks)


TORCHRUN = Command("torchrun", "a command in one rank per GPU, on one node or on all of a Slurm step", start_torchrun)
