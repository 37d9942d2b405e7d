"""Shards and an experiment in, checkpoints and a journal out."""
