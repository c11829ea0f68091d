"""Building networks fast and filling them strictly."""

from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from fewshot_automl.backbones.anatomy import Anatomy
from fewshot_automl.errors import CardError

_DRAWS: Mapping[str, tuple[str, ...]] = {
    "normal_": ("mean",),
    "uniform_": ("from", "a"),
    "kaiming_normal_": (),
    "kaiming_uniform_": (),
    "xavier_normal_": (),
    "xavier_uniform_": (),
}
"""What draws, as methods and in `nn.init`, and names of the argument to fill with."""


class WithoutDrawing(TorchFunctionMode):
    """Draws no initial weights; every one of them is about to be filled.

    It makes loading faster and leaves the global random state alone. `torch.nn.init`
    is passed over and its memory never touched; what draws by itself gets a constant
    that is inside any truncation, for initialisers that draw until a value is.

    >>> import torch
    >>> state = torch.get_rng_state()
    >>> with WithoutDrawing():
    ...     _ = nn.Linear(64, 64)
    >>> bool((state == torch.get_rng_state()).all())
    True
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Pass over or fill what would be drawn, and leave all else alone."""
        options = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name not in _DRAWS:
            return func(*args, **options)
        tensor: Tensor = args[0] if args else options["tensor"]
        if getattr(func, "__module__", "") == nn.init.__name__:
            return tensor
        first = [*args[1:2], *(options[key] for key in _DRAWS[name] if key in options)]
        tensor.data.fill_(first[0] if first and _DRAWS[name] else 0.0)
        return tensor


def fill(
    module: nn.Module, anatomy: Anatomy, tensors: dict[str, Tensor], card_id: str
) -> None:
    """Put tensors into a module, each into its place and none left over.

    Where type and memory layout are the module's, a tensor itself takes the place:
    weights mapped from a file stay mapped, unread until used, and written to a copy
    of the page.

    Args:
        module: Changed in place.
        anatomy: Says which tensors belong to parts that were left out.
        tensors: Changed in place.
        card_id: For messages.

    Raises:
        CardError: If names or shapes disagree.
    """
    for name in [n for n in tensors if n.startswith(anatomy.leftover)]:
        del tensors[name]
    if anatomy.fit is not None:
        anatomy.fit(module, tensors)
    wanted = module.state_dict()
    # Old files lack the counter that batch norm keeps only for training.
    missing = {n for n in wanted.keys() - tensors.keys() if "num_batches" not in n}
    unexpected = tensors.keys() - wanted.keys()
    if missing or unexpected:
        raise CardError(
            f"Weights of {card_id!r} must name the tensors of its architecture, got "
            f"{len(missing)} missing {sorted(missing)[:3]} and {len(unexpected)} "
            f"unexpected {sorted(unexpected)[:3]}. Correct the card."
        )
    places: dict[str, Tensor] = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    for name, tensor in tensors.items():
        if wanted[name].shape != tensor.shape:
            raise CardError(
                f"Tensor {name!r} of {card_id!r} must have shape "
                f"{tuple(wanted[name].shape)}, got {tuple(tensor.shape)}. "
                "Correct the card."
            )
        place = places[name]
        if (place.dtype, place.stride()) == (tensor.dtype, tensor.stride()):
            place.data = tensor
        else:
            place.data.copy_(tensor)


def freeze(module: nn.Module) -> None:
    """Make a module the way every backbone starts: eval mode, nothing trainable.

    Batch norm stays in eval mode for good: ``module.train()`` passes it by. Its
    scale and shift can be trained, its statistics cannot. A few dozen examples give
    moments so noisy that updating them costs more than it brings, they would make a
    result depend on who shares the batch, and a stem whose activations are stored
    must not drift.
    """
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.__dict__["train"] = MethodType(_stay_in_eval_mode, layer)
    module.eval()
    module.requires_grad_(False)


def _stay_in_eval_mode(layer: nn.Module, mode: bool = True) -> nn.Module:
    layer.training = False
    for child in layer.children():  # timm's batch norm holds its activation
        child.train(mode)
    return layer
