"""What is wrong with a machine, with those of a Slurm step, or with the network between them, and what to do about it."""
