"""Two towers on two devices, as in 2012: each rank holds one tower of every layer but the last (§3.5, Fig. 2)."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Partial, Replicate, Shard

from pipeline.config import ModelConfig
from pipeline.errors import check
from pipeline.model.alexnet import AlexNet
from pipeline.model.layers import CrossMapNorm, MaskDropout
from pipeline.model.sharding import keep_own_rows, move


class Crossing(nn.Module):
    """Each tower's activations to all towers; backward, the towers' partial gradients summed at the owner."""

    def __init__(self, mesh: DeviceMesh, *, is_next_whole: bool) -> None:
        """Cross between the ranks of `mesh`; none of the gradient crosses where the next layer is whole on each."""
        super().__init__()
        self.mesh, self.gradient = mesh, Replicate() if is_next_whole else Partial()

    def forward(self, own: Tensor) -> Tensor:
        """From (N, C, ...) to (N, towers · C, ...), tower after tower."""
        return move(own, self.mesh, Shard(1), Replicate(), gradient=self.gradient)


class TowerDropout(nn.Module):
    """One tower's part of the mask that one device would draw for all towers."""

    def __init__(self, dropout: nn.Module, mesh: DeviceMesh) -> None:
        """Part of the mask of `dropout`."""
        super().__init__()
        self.dropout, self.mesh = dropout, mesh

    def forward(self, own: Tensor) -> Tensor:
        """Mask or scale activations (N, C, ...)."""
        num, channels, *positions = own.shape
        mask: Tensor = self.dropout(own.new_ones(num, self.mesh.size() * channels, *positions))
        return own * mask.chunk(self.mesh.size(), 1)[self.mesh.get_local_rank()]


def split_towers(network: AlexNet, config: ModelConfig, mesh: DeviceMesh) -> AlexNet:
    """Leave a network this rank's tower, and let activations cross where a layer sees all towers, in place.

    The last layer stays whole on every rank: its outputs and its gradients need no further crossing.

    Args:
        network: the whole network, alike on all ranks.
        config: its description.
        mesh: the ranks that hold a tower each.

    Returns:
        The network with a layer `conv3_crossing` before `conv3`, and so on.

    Raises:
        InputError: the network has another number of towers.
    """
    check_towers(config, mesh.size())
    first, last = config.convs[0].name, config.linears[-1].name
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in network.named_children():
        if _sees_all_towers(layer) and name != first:
            layers[f"{name}_crossing"] = Crossing(mesh, is_next_whole=name == last)
        layers[name] = layer if name == last else _take_tower(layer, mesh)
    return AlexNet(layers)


def _sees_all_towers(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def _take_tower(layer: nn.Module, mesh: DeviceMesh) -> nn.Module:
    match layer:
        case nn.Conv2d():
            keep_own_rows(layer, mesh)
            layer.groups = 1
        case nn.Linear():
            keep_own_rows(layer, mesh)
        case CrossMapNorm():
            return CrossMapNorm(layer.config, towers=1)
        case nn.Dropout() | MaskDropout():
            return TowerDropout(layer, mesh)
    return layer


def check_towers(config: ModelConfig, num_towers: int) -> None:
    """Refuse a network that cannot be cut between its towers.

    Raises:
        InputError: it has another number of towers, or units that they cannot share.
    """
    check(
        config.towers == num_towers and all(conv.groups in {1, num_towers} for conv in config.convs),
        f"--towers {num_towers}: the network has {config.towers} of them by --model.towers and convolutions in "
        f"{', '.join(str(conv.groups) for conv in config.convs)} groups: leave out --towers, or share the fully "
        "connected layers with --fc-parallel",
    )
    for linear in config.linears[:-1]:
        units = config.scaled(linear.units or 0)
        check(
            units % num_towers == 0,
            f"--towers {num_towers}: {linear.name} has {units} units, which do not divide: change --model.width",
        )
