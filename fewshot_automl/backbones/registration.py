"""Taking a user's own fine-tuned folder into the zoo."""

import dataclasses
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fewshot_automl.backbones.card import (
    CARD_FILE,
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Card,
    ImageInput,
    TextInput,
    TextPooling,
    read,
)
from fewshot_automl.backbones.weights import adopt, user_folders
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.errors import CardError, DataError

_PICKLED_FILE = "pytorch_model.bin"
"""What timm's save_for_hf writes unless it is told otherwise."""
_FLOPS_TOKENS = 128
_MOST_TOKENS = 512
_LORA_NAMES = (
    ("query", "value"),
    ("q_proj", "v_proj"),
    ("query_proj", "value_proj"),
    ("q_lin", "v_lin"),
    ("attn.q", "attn.v"),
    ("attn.Wqkv",),
    ("attn.qkv", "attn.proj"),
    ("conv_pw", "conv_pwl"),
    ("pwconv1", "pwconv2"),
    ("conv1", "conv2"),
)


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CardError(f"{path} must be a JSON file, got {error}.") from error
    if not isinstance(values, dict):
        raise CardError(f"{path} must be a JSON object, got {values!r:.40}.")
    return values


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise DataError(f"PATH must be a folder, got {path}. Name another.")
    files = sorted(item.name for item in path.iterdir() if item.is_file())
    if "adapter_config.json" in files:
        raise DataError(
            f"{path} must hold a whole model, got a peft adapter. Merge it first: "
            "model.merge_and_unload().save_pretrained(FOLDER)."
        )
    weights = () if _PICKLED_FILE in files else (WEIGHTS_FILE,)
    for name in (*weights, CONFIG_FILE):
        if name not in files:
            raise DataError(
                f"{path} must hold {name}, got {', '.join(files) or 'nothing'}. "
                "Save the model with save_pretrained (transformers) or save_for_hf "
                "(timm)."
            )


def _text_input(path: Path, config: dict[str, Any]) -> TextInput:
    said = _json(path / "sentence_bert_config.json").get("max_seq_length")
    tokenizer = _json(path / "tokenizer_config.json").get("model_max_length")
    positions = config.get("max_position_embeddings", _MOST_TOKENS)
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # these number positions from the padding id on
    known = [said] if said else [tokenizer or _MOST_TOKENS, positions, _MOST_TOKENS]
    pooling: TextPooling = "mean"
    rows = _json(path / "1_Pooling" / CONFIG_FILE)
    if rows.get("pooling_mode_cls_token"):
        pooling = "cls"
    elif rows.get("pooling_mode_lasttoken"):
        pooling = "last"
    modules = path / "modules.json"
    return TextInput(
        max_tokens=int(min(known)),
        pooling=pooling,
        normalize=modules.exists() and "Normalize" in modules.read_text("utf-8"),
    )


def _image_input(path: Path, config: dict[str, Any]) -> ImageInput:
    given = {**config, **config.get("pretrained_cfg", {})}
    pooling = config.get("global_pool")
    values = {
        "size": (given.get("input_size") or [None])[-1],
        "crop_fraction": given.get("crop_pct"),
        "pooling": pooling if pooling in ("token", "map") else "avg",
        **{name: given.get(name) for name in ("mean", "std", "interpolation")},
    }
    return read(ImageInput, values, f"{path / CONFIG_FILE}, timm's pretrained_cfg")


def _draft(path: Path, id: str, license: str) -> Card:
    config = _json(path / CONFIG_FILE)
    is_timm = "architecture" in config
    if not is_timm and "model_type" not in config:
        raise CardError(
            f"{path / CONFIG_FILE} must have model_type (transformers) or architecture "
            f"(timm), got {', '.join(sorted(config)[:5])}. Save the model again."
        )
    if not is_timm and not (path / TOKENIZER_FILE).exists():
        raise CardError(
            f"{path} must hold {TOKENIZER_FILE}, got none. Save the tokenizer there: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)."
        )
    given = dict(config.get("model_args", {}))  # all that create_model took
    given.pop("num_classes", None)
    if (channels := given.pop("in_chans", 3)) != 3:
        raise DataError(
            f"{path / CONFIG_FILE} must be of a network that reads 3 channels, got "
            f"in_chans {channels}. Train one that reads colours."
        )
    recipe = _image_input(path, config) if is_timm else _text_input(path, config)
    architecture = str(config["architecture" if is_timm else "model_type"])
    return Card(
        id=id,
        family="timm" if is_timm else "transformers",
        modality="image" if is_timm else "text",
        architecture=architecture,
        config=given if is_timm else config,
        license=license,
        license_source="said when the folder was added",
        paper="none: the user's own weights",
        pretraining=f"the user's own, from {path.name}",
        parameters=1,
        width=1,
        depth=1,
        flops=1,
        flops_at=recipe.size
        if isinstance(recipe, ImageInput)
        else min(_FLOPS_TOKENS, recipe.max_tokens),
        facts_source="measured on the network when the folder was added",
        input=recipe,
        blocks="",
        lora_targets=(),
        group=architecture.split("_")[0],
        prior_rank=1,
        prior_source="the user added it",
    )


def _measured(draft: Card) -> Card:
    """Return a card with the facts of its network, built without memory for weights."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fewshot_automl.backbones.load import LOADERS
    from fewshot_automl.backbones.readers import MASK

    with torch.device("meta"):
        module, anatomy = LOADERS[draft.family](draft, None)
        module.eval().requires_grad_(False)
        batch = {"pixels": torch.zeros(1, 3, draft.flops_at, draft.flops_at)}
        if draft.modality == "text":
            ones = torch.ones(1, draft.flops_at, dtype=torch.int64)
            batch = {"input_ids": ones, MASK: ones}
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            mask = batch.get(MASK)
            hidden = anatomy.begin(module, batch)
            hidden = anatomy.run(module, hidden, mask, range(anatomy.depth))
            anatomy.finish(module, hidden, mask)
    lora = (
        targets
        for targets in _LORA_NAMES
        if all(anatomy.modules_named(module, (target,), 0) for target in targets)
    )
    first = anatomy.blocks[0][0]
    return dataclasses.replace(
        draft,
        parameters=sum(p.numel() for p in module.parameters()),
        width=anatomy.width,
        depth=anatomy.depth,
        flops=counter.get_total_flops(),
        blocks=first.rpartition(".")[0] or first,
        lora_targets=next(lora, ()),
    )


def add(
    path: Path,
    *,
    id: str | None = None,
    license: str = "unconfirmed: the user's own weights",
    is_replacing: bool = False,
) -> Card:
    """Take a folder of fine-tuned weights into the user's own zoo.

    The folder is one that transformers' ``save_pretrained`` wrote, with a
    ``tokenizer.json``, or timm's ``save_for_hf``. The weights are copied, pickled ones
    as safetensors; a classifier among them is passed over when they are loaded. Facts
    are measured on the network.

    Args:
        path: The folder; only read.
        id: Name of the backbone; None: the folder's name.
        license: SPDX expression, if there is one.
        is_replacing: Whether one that was added before may be replaced.

    Raises:
        DataError: If the folder does not hold what is needed, or the name is taken.
        CardError: If the weights are not those of a network we can build.
    """
    from fewshot_automl.backbones.checkpoints import convert
    from fewshot_automl.backbones.load import load, skeleton

    _check_folder(path)
    name = id or re.sub(r"[^a-z0-9._-]+", "-", path.resolve().name.lower()).strip("-._")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise DataError(
            "id must be of lower-case letters, digits, '.', '_' and '-', "
            f"got {name!r}. Choose another."
        )
    is_own = (user_folders()[0] / name / CARD_FILE).exists()
    if name in Zoo.known() and not (is_replacing and is_own):
        raise DataError(
            f"id must be new, got {name!r}, which the zoo has. Choose another."
        )
    card = _measured(_draft(path, name, license))
    names = (CONFIG_FILE, TOKENIZER_FILE)
    files = {name: path / name for name in names if (path / name).exists()}
    with tempfile.TemporaryDirectory() as room:
        home = path
        if not (path / WEIGHTS_FILE).exists():
            home = Path(room)
            for file in files.values():
                shutil.copy(file, home)
            network = skeleton(card, home)[0]
            convert(path / _PICKLED_FILE, "pth", "same", network, home / WEIGHTS_FILE)
        load(card, home)  # its weights must fit
        adopt(card, {**files, WEIGHTS_FILE: home / WEIGHTS_FILE})
    return card
