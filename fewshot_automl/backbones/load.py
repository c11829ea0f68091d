"""From a card and its weights to a backbone, and back from a saved folder."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewshot_automl.backbones.backbone import Anatomy, Backbone
from fewshot_automl.backbones.card import CARD_FILE, WEIGHTS_FILE, Card, read_card
from fewshot_automl.backbones.checkpoints import read_tensors
from fewshot_automl.backbones.readers import reader_of
from fewshot_automl.backbones.sources import file_sha256
from fewshot_automl.errors import CardError, unknown_name

Loader = Callable[[Card, Path | None], tuple[nn.Module, Anatomy]]
"""Builds the network of a card; the path is the folder of the weights."""


def _timm(card: Card, folder: Path | None) -> tuple[nn.Module, Anatomy]:
    from fewshot_automl.backbones import from_timm

    return from_timm.build(card, folder)


def _transformers(card: Card, folder: Path | None) -> tuple[nn.Module, Anatomy]:
    from fewshot_automl.backbones import from_transformers

    return from_transformers.build(card, folder)


LOADERS: Mapping[str, Loader] = {
    "timm": _timm,
    "transformers": _transformers,
}
"""One row a family of backbones; each imports its library when it is first asked."""


def build(card: Card, folder: Path | None = None) -> tuple[nn.Module, Anatomy]:
    """Return the network of a card with random weights, checked against the card.

    The folder is where a configuration lies that the card does not hold.
    """
    if card.family not in LOADERS:
        raise unknown_name("family of backbones", card.family, LOADERS, "fewshot zoo")
    module, anatomy = LOADERS[card.family](card, folder)
    said, found = (card.width, card.depth), (anatomy.width, anatomy.depth)
    if said != found:
        raise CardError(
            f"width and depth of card {card.id!r} must be the network's {found}, "
            f"got {said}. Correct the card."
        )
    return module, anatomy


def skeleton(card: Card, folder: Path | None = None) -> tuple[nn.Module, Anatomy]:
    """Return what `build` does, without memory for the weights."""
    with torch.device("meta"):
        return build(card, folder)


def load(
    card: Card, folder: Path, *, device: str = "cpu", most_bytes: int | None = None
) -> Backbone:
    """Return the backbone of a card, in eval mode with every parameter frozen.

    The folder holds weights and what belongs beside them, as `weights.locate` finds it.
    Of weights of more than `most_bytes` the last blocks stay in the file, and each is
    on the device only while it runs.

    Raises:
        CardError: If weights, tokenizer or configuration do not fit the card.
    """
    weights = folder / WEIGHTS_FILE
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))  # drawn weights
        # Swin V2 computes on the device of its weights while it is built.
        if most_bytes is not None and not card.architecture.startswith("swinv2"):
            from accelerate import init_empty_weights

            stack.enter_context(init_empty_weights(include_buffers=False))
        module, anatomy = build(card, folder)
    in_file = _fill(module, anatomy, read_tensors(weights), card.id, device, most_bytes)
    _freeze(module)
    module._apply(  # type: ignore[no-untyped-call]
        lambda tensor: tensor if tensor.is_meta else tensor.to(device)
    )
    reader = reader_of(card, folder, anatomy.pad_id)
    return Backbone(
        card=card,
        module=module,
        recipe=f"{reader.recipe} {_digest(card, anatomy)}",
        weights_sha256=file_sha256(weights),
        anatomy=anatomy,
        reader=reader,
        in_file=in_file,
    )


def encoder_names(
    module: nn.Module, anatomy: Anatomy, names: set[str]
) -> dict[str, str]:
    """Return name in the network to name in a weight file that may hold more.

    A file of a whole model puts its model's name before the encoder's tensors and has
    heads beside it; a pooler or classifier that nobody runs is left out. All else
    stays, also what the network does not know, so that filling it fails.
    """
    wanted = module.state_dict().keys()
    prefixes = {""} | {f"{name.partition('.')[0]}." for name in names}
    prefix = max(sorted(prefixes), key=lambda p: len({p + n for n in wanted} & names))
    parts = {name.partition(".")[0] for name in wanted}
    computed = {name for name, _ in module.named_buffers()} - wanted
    inner = {n.removeprefix(prefix): n for n in names if n.startswith(prefix)}
    return {
        name: given
        for name, given in inner.items()
        if name.partition(".")[0] in parts
        and not name.startswith(anatomy.leftover)
        and name not in computed
    }


def _fill(
    module: nn.Module,
    anatomy: Anatomy,
    tensors: dict[str, Tensor],
    card_id: str,
    device: str,
    most_bytes: int | None,
) -> dict[str, Tensor]:
    """Put tensors into a module, each into its place and none left over.

    The tensors themselves take the places: weights mapped from a file stay mapped,
    unread until used, and written to a copy of the page.

    Returns:
        The weights that find no room, by name. Their places have sizes and no memory,
        but while the block runs that they belong to.
    """
    if anatomy.fit is not None:
        tensors = anatomy.fit(module, tensors)
    names = encoder_names(module, anatomy, set(tensors))
    kept = {name: tensors[given] for name, given in names.items()}
    try:
        module.load_state_dict(kept, strict=True, assign=True)
    except RuntimeError as error:
        raise CardError(
            f"Weights of {card_id!r} must be those of its architecture, got: "
            f"{' '.join(str(error).split())[:400]} Correct the card."
        ) from error
    in_file: dict[str, Tensor] = {}
    for path in _without_room(module, anatomy, most_bytes):
        from accelerate.hooks import AlignDevicesHook, add_hook_to_module

        part = module.get_submodule(path)
        own = {name: kept[f"{path}.{name}"] for name, _ in part.named_parameters()}
        in_file |= {f"{path}.{name}": tensor for name, tensor in own.items()}
        hook = AlignDevicesHook(
            execution_device=torch.device(device),
            offload=True,
            weights_map=own,
            place_submodules=True,
        )
        add_hook_to_module(part, hook)
    module.float()  # files may be in half precision
    if any(parameter.ndim == 4 for parameter in module.parameters()):
        # Convolutions run an eighth faster so, measured with one thread on a CPU.
        module.to(memory_format=torch.channels_last)
    return in_file


def _without_room(
    module: nn.Module, anatomy: Anatomy, most_bytes: int | None
) -> list[str]:
    """Return the names of the last blocks' modules, if not all find room.

    What is no block stays: some networks use such weights outside any module's call.
    Room is kept for the largest block to come and go.
    """

    def size(*parts: str) -> int:
        weights = (module.get_submodule(part).parameters() for part in parts)
        return sum(4 * weight.numel() for own in weights for weight in own)

    sizes = [size(*block) for block in anatomy.blocks]
    if most_bytes is None or size("") <= most_bytes:
        return []
    room = most_bytes - (size("") - sum(sizes)) - max(sizes)
    stay = sum(total <= room for total in accumulate(sizes))
    return [part for block in anatomy.blocks[stay:] for part in block]


def _freeze(module: nn.Module) -> None:
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


def load_saved(
    folder: Path, *, device: str = "cpu", most_bytes: int | None = None
) -> Backbone:
    """Return what `Backbone.save` wrote; needs no zoo, no cache and no network.

    Whoever saved the backbone as a part of more checks the hashes of its files.
    """
    card = read_card(folder / CARD_FILE)
    return load(card, folder, device=device, most_bytes=most_bytes)


def _digest(card: Card, anatomy: Anatomy) -> str:
    """Return what shapes features besides weights and preprocessing.

    Stored features are keyed by the recipe, and two cards may read one weight file
    with another pooling or configuration.
    """
    config = card.config if anatomy.config is None else anatomy.config
    text = json.dumps([card.architecture, dict(config)], sort_keys=True, default=str)
    network = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"pooling={card.input.pooling} network={network}"
