"""Lets `torchrun -m pipeline` start the same command line as `alexnet`."""

from pipeline.cli import main

main()
