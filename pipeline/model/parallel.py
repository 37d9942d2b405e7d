"""The network on the ranks of a world: copies of it, two towers on two devices, or one weird trick."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from pipeline.config import ModelConfig
from pipeline.distributed import World
from pipeline.model.alexnet import AlexNet

State = dict[str, Any]


class ParallelNetwork(nn.Module):
    """This rank's part of the network; gradients are means over all pictures, whichever way the ranks share it.

    `network` holds the parameters under the names that they have on one device; the optimiser owns these. State goes in
    and out as that of the whole network, so that it does not depend on the number of ranks and on how they share.
    """

    def __init__(
        self, network: AlexNet, config: ModelConfig, world: World, *, batch_size: int, bfloat16_gradients: bool = False
    ) -> None:
        """Spread a network over the ranks; every rank calls this.

        Args:
            network: the whole network, alike on all ranks and on its device; only this rank's part is kept.
            config: its description.
            world: this rank among all, and how they share the network.
            batch_size: pictures that a rank passes through it at once in training, at most.
            bfloat16_gradients: average gradients as bfloat16, half as many bytes; weights and steps stay as they are.

        Raises:
            InputError: the network cannot be shared in this way.
        """
        super().__init__()
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self._mesh = world.mesh["model"] if world.mesh else None
        stages: list[tuple[nn.Module, dist.ProcessGroup | None]]
        if self._mesh and world.towers > 1:
            from pipeline.model.towers import split_towers  # DTensor takes a second or two to import

            network = split_towers(network, config, self._mesh)
            stages = [(network, world.copies_group)]
        elif self._mesh:
            from pipeline.model.fc_parallel import share_linears

            share_linears(network, config, self._mesh, batch_size=batch_size)
            convs, linears = _cut_before(network, config.linears[0].name)
            stages = [(nn.Sequential(convs), None), (AlexNet(linears), world.copies_group)]
        else:
            stages = [(network, None)]
        self.network = network
        self._shared = {name for name, parameter in network.named_parameters() if parameter.shape != shapes[name]}
        # A tuple, for a list of modules would give each parameter a second name.
        self._stages = tuple(
            _average_gradients(stage, world, group, as_bfloat16=bfloat16_gradients) for stage, group in stages
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of this rank's pictures. Ranks that share the network have to call it equally often."""
        activations = images
        for stage in self._stages:
            activations = stage(activations)
        return activations

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Within it, forward and backward passes add to this rank's gradients and leave them unaveraged."""
        with ExitStack() as stack:
            for stage in self._stages:
                if isinstance(stage, DistributedDataParallel):
                    stack.enter_context(stage.no_sync())
            yield

    def gather_state(self) -> dict[str, Tensor]:
        """The whole network's state, on every rank; all of them call this."""
        return {
            name: self._gather(value) if name in self._shared else value
            for name, value in self.network.state_dict().items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take this rank's part of the whole network's state."""
        own = {name: self._pick_own(value) if name in self._shared else value for name, value in state.items()}
        self.network.load_state_dict(own)

    def gather_optimizer_state(self, optimizer: torch.optim.Optimizer) -> State:
        """The state that the optimiser would have on one device, on every rank; all of them call this."""
        shared = self._find_shared()

        def gather(parameter: Tensor, own: Tensor) -> Tensor:
            return self._gather(own) if parameter in shared else own

        return _change_buffers(optimizer, optimizer.state_dict(), gather)

    def load_optimizer_state(self, optimizer: torch.optim.Optimizer, state: State) -> None:
        """Take this rank's part of the state that the optimiser has on one device."""
        shared = self._find_shared()

        def lay_out(parameter: Tensor, whole: Tensor) -> Tensor:
            own = self._pick_own(whole) if parameter in shared else whole
            # The fused optimiser takes a buffer to lie in memory as its parameter does, channels last or not.
            return torch.empty_like(parameter).copy_(own)

        optimizer.load_state_dict(_change_buffers(optimizer, state, lay_out))

    def _find_shared(self) -> set[nn.Parameter]:
        return {self.network.get_parameter(name) for name in self._shared}

    def _gather(self, own: Tensor) -> Tensor:
        from pipeline.model.sharding import gather_rows

        assert self._mesh is not None
        return gather_rows(own, self._mesh)

    def _pick_own(self, whole: Tensor) -> Tensor:
        from pipeline.model.sharding import pick_own_rows

        assert self._mesh is not None
        return pick_own_rows(whole, self._mesh)


def _change_buffers(
    optimizer: torch.optim.Optimizer, state: State, change: Callable[[Tensor, Tensor], Tensor]
) -> State:
    """A state with `change(parameter, buffer)` for each buffer that has dimensions; a state counts parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    changed = {
        index: {
            key: change(parameters[index], value) if isinstance(value, Tensor) and value.dim() else value
            for key, value in buffers.items()
        }
        for index, buffers in state["state"].items()
    }
    return state | {"state": changed}


def _cut_before(network: AlexNet, name: str) -> tuple[OrderedDict[str, nn.Module], OrderedDict[str, nn.Module]]:
    layers = list(network.named_children())
    position = [found for found, _ in layers].index(name)
    return OrderedDict(layers[:position]), OrderedDict(layers[position:])


def _average_gradients(
    stage: nn.Module, world: World, group: dist.ProcessGroup | None, *, as_bfloat16: bool
) -> nn.Module:
    """The stage with gradients averaged over the group's ranks; itself where there is one rank."""
    if world.world_size == 1 or dist.get_world_size(group) == 1:
        return stage
    devices = [world.device.index] if world.device.type == "cuda" else None
    parallel = DistributedDataParallel(stage, device_ids=devices, process_group=group, gradient_as_bucket_view=True)
    if as_bfloat16:
        parallel.register_comm_hook(parallel.process_group, bf16_compress_hook)
    return parallel
