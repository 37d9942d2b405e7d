"""Shards in, batches out: which picture when, what is cut from it, how its colours shift."""
