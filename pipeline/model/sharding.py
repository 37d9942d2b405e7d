"""Tensors of which each rank of a group holds a part, and how they move between the ranks: on torch's DTensor.

The parameters stay plain tensors, unlike those that `parallelize_module` makes: the fused optimiser and
DistributedDataParallel accept no mixture of plain tensors and DTensors.
"""

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Shard


def move(own: Tensor, mesh: DeviceMesh, before: Placement, after: Placement, *, gradient: Placement) -> Tensor:
    """Pass what this rank holds of a tensor to those that need it, and gradients the other way.

    Args:
        own: this rank's part, as large as everybody's.
        mesh: the ranks, in one dimension.
        before: how the tensor lies on them.
        after: how it shall lie.
        gradient: how the gradient of the result lies on them: in parts, whole on each, or as partial sums.

    Returns:
        This rank's part of the tensor as it lies now; not to be overwritten.
    """
    spread = DTensor.from_local(own, mesh, (before,), run_check=False)
    return spread.redistribute(placements=(after,)).to_local(grad_placements=(gradient,))


def pick_own_rows(whole: Tensor, mesh: DeviceMesh) -> Tensor:
    """This rank's equal share of a tensor's first dimension, as a copy."""
    return whole.detach().chunk(mesh.size())[mesh.get_local_rank()].clone()


def gather_rows(own: Tensor, mesh: DeviceMesh) -> Tensor:
    """The whole tensor, on every rank, from the shares of `pick_own_rows`."""
    return DTensor.from_local(own.detach(), mesh, (Shard(0),), run_check=False).full_tensor()


def keep_own_rows(layer: nn.Module, mesh: DeviceMesh) -> None:
    """Leave a layer this rank's share of its output units or channels."""
    for name, parameter in list(layer.named_parameters(recurse=False)):
        setattr(layer, name, nn.Parameter(pick_own_rows(parameter, mesh)))
