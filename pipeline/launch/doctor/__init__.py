"""What is wrong with this machine, those of a Slurm step, and the network between them, and what to do about it."""
