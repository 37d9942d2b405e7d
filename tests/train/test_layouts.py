"""One run, whose ranks share the network in another way at each start, ends as one process would."""

import pytest
import torch
from ranks import run_ranks
from small_runs import list_words, read_newest

pytestmark = pytest.mark.distributed
WITHOUT_DROPOUT = "--model.dropout=0"  # for ranks with pictures of their own draw masks of their own
STARTS = (
    ("--max-steps=7", (), 1),
    ("--max-steps=13", ("--towers=2", "--resume"), 2),
    ("--max-steps=24", ("--fc-parallel=2", "--resume"), 2),
)


def test_a_run_that_changes_its_layout_at_each_start_ends_as_one_process_would(shard_set, tmp_path):
    alone = run_ranks(*list_words(shard_set, tmp_path / "alone", WITHOUT_DROPOUT))
    assert alone.returncode == 0, alone.stderr
    for limit, flags, processes in STARTS:
        words = list_words(shard_set, tmp_path / "changed", WITHOUT_DROPOUT, limit, *flags)
        ended = run_ranks(*words, processes=processes)
        assert ended.returncode == 0, ended.stderr
    expected, found = (read_newest(tmp_path / name) for name in ("alone", "changed"))
    assert (found.step, found.evaluations) == (expected.step, expected.evaluations)
    for name, weights in expected.model.items():
        assert torch.allclose(found.model[name], weights, rtol=1e-4, atol=1e-6), name
