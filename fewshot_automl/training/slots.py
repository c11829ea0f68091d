"""Many small networks run as one: trained weights get a leading `slots` axis."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewshot_automl.errors import TrialError


@dataclass(slots=True)
class Span:
    """Says how the rows of a batch are divided among slots, for all modules of one."""

    slots: int
    """Networks that run as one."""
    rows: int
    """Rows of each; a batch holds slots * rows of them, slot by slot."""


class Slotted(nn.Module):
    """Stands in one network for the same layer of several, with the weights of each.

    What is trained differs from slot to slot and is stacked; what is frozen stays one
    layer outside, which sees the rows of all slots as one large batch. Weights of
    unequal shape (LoRA of several ranks) are filled up with zeros, whose gradients
    stay zero.
    """

    def __init__(self, members: Sequence[nn.Module], span: Span) -> None:
        super().__init__()
        self._span = span
        self._layer = [_bare(members[0])]  # in a list, so that it is no submodule
        self._names = [name for name, _ in members[0].named_parameters()]
        self._buffers_named = [name for name, _ in members[0].named_buffers()]
        owned = [dict(member.named_parameters()) for member in members]
        self.stacked = nn.ParameterList(
            nn.Parameter(_filled([each[name].detach() for each in owned]))
            for name in self._names
        )
        held = [dict(member.named_buffers()) for member in members]
        for at, name in enumerate(self._buffers_named):
            stacked = torch.stack([each[name] for each in held])
            self.register_buffer(f"buffer_{at}", stacked)

    def forward(self, hidden: Tensor, *shared: Any, **named: Any) -> Tensor:
        """Return what each slot's layer makes of its own rows.

        A batch may have been cut into windows or heads on the way; its first axis
        still goes slot by slot. What all rows share, such as positions, has a first
        axis of one. Further arguments are the same for all rows.
        """
        span = self._span
        is_split = hidden.shape[0] % (span.slots * span.rows) == 0
        if is_split:
            parts = hidden.reshape(span.slots, -1, *hidden.shape[1:])
            if type(self.layer) in _FAST and _is_fast(self.layer):
                out = _FAST[type(self.layer)](self, parts)
            else:
                out = _general(self, parts, 0, shared, named)
        else:
            out = _general(self, hidden, None, shared, named)
            out = out.expand(-1, span.rows, *out.shape[2:])
        return out.flatten(0, 1)

    def keep(self, slots: Tensor) -> None:
        """Drop all slots but some, in place.

        Args:
            slots: Places of those that stay.
        """
        for parameter in self.stacked:
            parameter.data = parameter.data[slots]
        for at in range(len(self._buffers_named)):
            name = f"buffer_{at}"
            self.register_buffer(name, self.get_buffer(name)[slots])

    def give_back(self, slot: int, member: nn.Module) -> None:
        """Write one slot's weights into the layer they came from."""
        owned = dict(member.named_parameters())
        with torch.no_grad():
            for name, stacked in zip(self._names, self.stacked, strict=True):
                target = owned[name]
                cut = tuple(slice(size) for size in target.shape)
                target.copy_(stacked[slot][cut])

    def named(self) -> dict[str, Tensor]:
        """Return the stacked tensors by the names they have in the layer."""
        tensors: dict[str, Tensor] = dict(zip(self._names, self.stacked, strict=True))
        for at, name in enumerate(self._buffers_named):
            tensors[name] = self.get_buffer(f"buffer_{at}")
        return tensors

    @property
    def layer(self) -> nn.Module:
        """Return the layer without weights, for its settings."""
        return self._layer[0]


def _general(
    slotted: Slotted,
    parts: Tensor,
    axis: int | None,
    shared: tuple[Any, ...],
    named: dict[str, Any],
) -> Tensor:
    """Run any layer, mapped over the slots."""

    def one(tensors: dict[str, Tensor], rows: Tensor) -> Tensor:
        given = (rows, *shared)
        out: Tensor = functional_call(slotted.layer, tensors, given, named)
        return out

    # The fused attention kernels cannot be mapped over slots.
    with sdpa_kernel(SDPBackend.MATH):
        out: Tensor = torch.vmap(one, in_dims=(0, axis))(slotted.named(), parts)
    return out


def _linear(slotted: Slotted, parts: Tensor) -> Tensor:
    """Run linear layers as one batched matrix product."""
    return _products(slotted.named(), parts)


def _products(tensors: dict[str, Tensor], parts: Tensor) -> Tensor:
    rows = parts.flatten(1, -2)
    weight = tensors["weight"].flatten(2).transpose(1, 2)
    if "bias" in tensors:
        out = torch.baddbmm(tensors["bias"].unsqueeze(1), rows, weight)
    else:
        out = torch.bmm(rows, weight)
    return out.reshape(*parts.shape[:-1], -1)


def _layer_norm(slotted: Slotted, parts: Tensor) -> Tensor:
    """Normalise all rows at once, then scale each slot's as it says."""
    layer = slotted.layer
    assert isinstance(layer, nn.LayerNorm)
    shape = list(layer.normalized_shape)
    normal = nn.functional.layer_norm(parts, shape, eps=layer.eps)
    tensors = slotted.named()
    ones = [1] * (parts.ndim - 1 - len(shape))
    scale = tensors["weight"].view(-1, *ones, *shape)
    return normal * scale + tensors["bias"].view(-1, *ones, *shape)


def _pointwise(slotted: Slotted, parts: Tensor) -> Tensor:
    """Run convolutions of one pixel as linear layers over channels."""
    return _products(slotted.named(), parts.movedim(2, -1)).movedim(-1, 2)


def _batch_norm(slotted: Slotted, parts: Tensor) -> Tensor:
    """Scale and shift by fixed statistics, in the precision of what comes in."""
    layer, tensors = slotted.layer, slotted.named()
    assert isinstance(layer, nn.BatchNorm2d)
    scale = tensors["weight"] * (tensors["running_var"] + layer.eps).rsqrt()
    shift = tensors["bias"] - tensors["running_mean"] * scale
    shape = (*scale.shape[:1], 1, scale.shape[1], 1, 1)
    return parts * scale.view(shape).to(parts) + shift.view(shape).to(parts)


_FAST: Final[dict[type, Callable[[Slotted, Tensor], Tensor]]] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Conv2d: _pointwise,
}


def _is_fast(layer: nn.Module) -> bool:
    """Return whether the fast way of a layer's type holds for this one."""
    if isinstance(layer, nn.LayerNorm):
        return layer.elementwise_affine and layer.bias is not None
    if isinstance(layer, nn.BatchNorm2d):
        return layer.affine and layer.track_running_stats and not layer.training
    if isinstance(layer, nn.Conv2d):
        plain = (layer.kernel_size, layer.stride) == ((1, 1), (1, 1))
        return plain and layer.groups == 1 and layer.padding in ((0, 0), "valid")
    return True


def stack(modules: Sequence[nn.Module], skeleton: nn.Module, span: Span) -> list[str]:
    """Put into a skeleton, in place, the trained layers of several like it.

    Args:
        modules: Networks of one structure that may differ in what they train.
        skeleton: Another one of that structure. Its layers with trained weights are
            replaced; the others stay and are run for all slots.
        span: How batches will be divided; changed by the caller batch by batch.

    Returns:
        Names of the layers that were replaced.

    Raises:
        TrialError: If a trained weight is used outside the layer that holds it.
    """
    found = _trained_layers(skeleton)
    for name in found:
        members = [module.get_submodule(name) for module in modules]
        skeleton.set_submodule(name, Slotted(members, span))
    left = [name for name, p in skeleton.named_parameters() if p.requires_grad]
    stray = [name for name in left if ".stacked." not in f".{name}"]
    if stray:
        raise TrialError(f"Weights {stray[:3]} cannot be trained in slots.")
    return found


def slotted_layers(skeleton: nn.Module) -> dict[str, Slotted]:
    """Return the layers of a skeleton that `stack` put there, by name."""
    return {
        name: layer
        for name, layer in skeleton.named_modules()
        if isinstance(layer, Slotted)
    }


def _trained_layers(module: nn.Module) -> list[str]:
    """Return the topmost modules that own a trained parameter themselves."""
    found: list[str] = []
    for name, layer in module.named_modules():
        is_inside = any(name.startswith(f"{outer}.") for outer in found)
        owned = layer.parameters(recurse=False)
        if name and not is_inside and any(p.requires_grad for p in owned):
            found.append(name)
    return found


def _bare(layer: nn.Module) -> nn.Module:
    """Return a copy without weights."""
    memo: dict[int, Any] = {}
    for parameter in layer.parameters():
        memo[id(parameter)] = nn.Parameter(
            torch.empty(parameter.shape, device="meta"), requires_grad=False
        )
    return copy.deepcopy(layer, memo)


def _filled(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors, the smaller ones filled up with zeros."""
    shape = [max(sizes) for sizes in zip(*(t.shape for t in tensors), strict=True)]
    out = tensors[0].new_zeros((len(tensors), *shape))
    for at, tensor in enumerate(tensors):
        out[at][tuple(slice(size) for size in tensor.shape)] = tensor
    return out
