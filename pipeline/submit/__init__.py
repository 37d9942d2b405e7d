"""Stages as Slurm jobs, through the scripts of slurm/: submitted as chains, looked at, taken down. Without torch."""
