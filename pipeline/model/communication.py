"""Bytes that this rank sends, counted at each collective call that torch makes while a counter is on."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

MEGABYTE = 1e6


def _count_all_reduce(arguments: tuple[Any, ...], _: Any) -> float:
    tensors, group = arguments[:2]
    return float(2 * (1 - 1 / dist.ProcessGroup.unbox(group).size()) * sum(tensor.nbytes for tensor in tensors))


def _count_all_to_all(arguments: tuple[Any, ...], result: Any) -> float:
    own, gathered_dim = arguments[:2]
    return float(own.nbytes * (1 - own.shape[gathered_dim] / result.shape[gathered_dim]))


COLLECTIVES: dict[str, tuple[str, Callable[[tuple[Any, ...], Any], float]]] = {
    "c10d::allreduce_": ("all-reduce", _count_all_reduce),
    "_c10d_functional::all_gather_into_tensor": ("all-gather", lambda own, whole: whole.nbytes - own[0].nbytes),
    "_c10d_functional::reduce_scatter_tensor": ("reduce-scatter", lambda whole, own: whole[0].nbytes - own.nbytes),
    "_dtensor::shard_dim_alltoall": ("all-to-all", _count_all_to_all),
}
"""torch's name: ours, and what a rank sends in a ring, from arguments and result.

Of n ranks each sends 2 (n-1)/n of the tensor to reduce it for all, and (n-1)/n of the whole one to gather, to reduce in
parts, or to exchange it. DistributedDataParallel calls the first, DTensor the others; on a CPU it exchanges by
gathering, which is counted as such.
"""


class CommunicationCounter(TorchDispatchMode):
    """Within it, `sent_bytes` grows: bytes that this rank sends, by kind of collective."""

    def __init__(self) -> None:
        """Begin at nothing."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.sent_bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Let the call pass, and count it if it is a collective."""
        result = func(*args, **(kwargs or {}))
        if found := COLLECTIVES.get(func.name()):
            kind, count_sent = found
            self.sent_bytes[kind] += round(count_sent(args, result))
        return result

    def describe(self) -> str:
        """What was sent, in words for people."""
        parts = ", ".join(f"{kind} {size / MEGABYTE:,.1f}" for kind, size in self.sent_bytes.items())
        return f"{self.sent_bytes.total() / MEGABYTE:,.1f} MB" + (f" ({parts})" if parts else "")
