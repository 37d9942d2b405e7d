"""One weird trick: convolutions work on each rank's own pictures, fully connected layers on everyone's, in parts.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, arXiv 1404.5997: the convolutions
have a twentieth of the weights and nine tenths of the work, so that it is cheaper to send the fully connected layers'
activations than their gradients.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Partial, Replicate, Shard

from pipeline.config import ModelConfig
from pipeline.errors import check
from pipeline.model.alexnet import AlexNet
from pipeline.model.sharding import move, pick_own_rows


class SharedLinear(nn.Linear):
    """Some units of a fully connected layer, for the pictures of all ranks that share it.

    Inputs and outputs are those of this rank's pictures and all units, so that what lies between two such layers, and
    the dropout drawn there, is that of data parallelism. The gradients are means over the sharing ranks, as there.
    """

    def __init__(self, linear: nn.Linear, mesh: DeviceMesh, *, batch_size: int) -> None:
        """Share `linear` among the ranks of `mesh`, each with at most `batch_size` pictures."""
        super().__init__(linear.in_features, linear.out_features // mesh.size(), device="meta")
        self.mesh, self.batch_size = mesh, batch_size
        self.weight = nn.Parameter(pick_own_rows(linear.weight, mesh))
        self.bias = nn.Parameter(pick_own_rows(linear.bias, mesh))
        for parameter in self.parameters():
            parameter.register_hook(lambda gradient: gradient / mesh.size())  # type: ignore[no-untyped-call]

    def forward(self, activations: Tensor) -> Tensor:
        """From (N, inputs) to (N, units), N up to `batch_size`: a damaged picture leaves a rank with fewer."""
        assert len(activations) <= self.batch_size
        filled = F.pad(activations, (0, 0, 0, self.batch_size - len(activations)))
        everyones = move(filled, self.mesh, Shard(0), Replicate(), gradient=Partial())
        own_units = F.linear(everyones, self.weight, self.bias)
        filled_units = move(own_units, self.mesh, Shard(1), Shard(0), gradient=Shard(0))
        return filled_units[: len(activations)].clone()  # ReLU overwrites it


def share_linears(network: AlexNet, config: ModelConfig, mesh: DeviceMesh, *, batch_size: int) -> None:
    """Leave each fully connected layer of a network this rank's share of its units, in place.

    Args:
        network: the whole network, alike on all ranks.
        config: its description.
        mesh: the ranks that share.
        batch_size: pictures that each of them passes through the network at once, at most.

    Raises:
        InputError: a layer's units do not divide.
    """
    check_fc_parallel(config, mesh.size())
    for linear in config.linears:
        whole = network.get_submodule(linear.name)
        assert isinstance(whole, nn.Linear)
        network.set_submodule(linear.name, SharedLinear(whole, mesh, batch_size=batch_size))


def check_fc_parallel(config: ModelConfig, num_ranks: int) -> None:
    """Refuse a network whose fully connected layers so many ranks cannot share.

    Raises:
        InputError: a layer's units do not divide.
    """
    for linear in config.linears:
        units = config.num_classes if linear.units is None else config.scaled(linear.units)
        check(
            units % num_ranks == 0,
            f"--fc-parallel {num_ranks}: {linear.name} has {units} units, which do not divide: choose a divisor",
        )
