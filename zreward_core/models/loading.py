"""Teachers and students from folders and the checkpoints that their cards point to."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, PreTrainedConfig

from zreward_core.adapters import ADAPTER, separate
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone, TrainedWeights, chat_format, with_trace_close
from zreward_core.models.card import CARD, checkpoint_source, read_card
from zreward_core.models.families import FAMILIES, Family
from zreward_core.models.pixels import PixelPath
from zreward_core.models.prompts import ChatFormat, PromptSettings
from zreward_core.rubric import Rubric
from zreward_core.weights import reading_checkpoint, require_all_weights, require_float_weights


def load_backbone(folder: str | Path, dtype: str = "float32") -> Backbone:
    """Load a model folder, or the checkpoint that its card points to.

    In a lower precision than float32, the low-rank updates of a trained model are not merged but
    computed apart: rounded into the weights, they would be lost.

    Args:
        folder: a folder with ``zreward.json``.
        dtype: name of the torch dtype of the weights; "auto" for the one they are stored in.

    Raises:
        UserError: there is no such folder, card or readable checkpoint, the family is unsupported,
            weights differ from those of the model, or label tokens from those of the card.
    """
    folder = Path(folder)
    content = read_card(folder)
    source, revision = checkpoint_of(folder, content)
    wanted = None if dtype == "auto" else getattr(torch, dtype)
    adapter = Path(source) / ADAPTER
    apart = adapter.is_dir() and wanted not in (None, torch.float32)
    with reading_checkpoint(source):
        require_family(source, revision)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            dtype=torch.float32 if apart else (wanted or "auto"),
            trust_remote_code=False,
            use_safetensors=True,  # never a pickle
            ignore_mismatched_sizes=True,  # reported below, with the shapes
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=False
        )
        pixels = PixelPath.from_pretrained(source, revision, content.get("max_pixels"))
        model, found = loaded
        require_all_weights(source, found)
        files = local_files(source, revision)
        require_float_weights(model, files, files / ADAPTER)
        pixels.require_fit(model.config, source)
        rubric, prompt = Rubric(**content["rubric"]), PromptSettings(**content["prompt"])
        adapted = None
        if apart:
            from peft import PeftModel

            assert wanted is not None
            adapted = PeftModel.from_pretrained(model, adapter)
            separate(model, wanted)
        backbone = Backbone(model, tokenizer, pixels, rubric, prompt, str(folder))
        backbone.adapted = adapted
        backbone.folder = folder.absolute()  # wherever the program goes meanwhile
    if content["label_ids"] not in (None, backbone.chat.label_ids):
        raise UserError(
            f"{folder / CARD}: 'label_ids' is {content['label_ids']}, but {backbone.chat.label_ids}"
            " in the tokenizer beside it: restore the folder, or run the model's stage again"
        )
    backbone.network.eval()
    return backbone


def load_chat(folder: Path) -> ChatFormat:
    """The chat format of a model folder, without its weights.

    Raises:
        UserError: the checkpoint has no readable config or tokenizer, is of an unsupported
            family, or its tokenizer does not fit the rubric's labels or the prompt's texts.
    """
    content = read_card(folder)
    source, revision = checkpoint_of(folder, content)
    with reading_checkpoint(source):
        family = require_family(source, revision)
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=False
        )
        pixels = PixelPath.from_pretrained(source, revision, content.get("max_pixels"))
        pixels.require_fit(config, source)
        prompt = with_trace_close(PromptSettings(**content["prompt"]), family)
        try:
            return chat_format(config, tokenizer, pixels, Rubric(**content["rubric"]), prompt)
        except UserError as error:  # a label may have no token because a tokenizer lacks its file
            raise UserError(f"{source}: {error}") from None


def checkpoint_of(folder: Path, content: dict[str, Any]) -> tuple[str, str]:
    """Source and revision of the checkpoint that a card points to, or of the folder itself."""
    source = checkpoint_source(content) or str(folder)
    return source, content.get("revision") or "main"


def local_files(source: str, revision: str) -> Path:
    """The folder with the files of a checkpoint that was loaded."""
    if Path(source).is_dir():
        return Path(source)
    return Path(snapshot_download(source, revision=revision, local_files_only=True))


def require_family(source: str, revision: str) -> Family:
    """The family in a checkpoint's config, read before any weights.

    Raises:
        UserError: there is no config, or its ``model_type`` is not in ``FAMILIES``.
    """
    found = PreTrainedConfig.get_config_dict(source, revision=revision)[0].get("model_type")
    if found is None:
        raise UserError(f"{source} is not a readable checkpoint: no model_type in config.json")
    if found not in FAMILIES:
        raise UserError(
            f"{source} has model_type {found!r}, which is not supported: "
            f"use a checkpoint with one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[found]


def open_backbone(folder: Path, settings: TrainedWeights, seed: int) -> Backbone:
    """Load a base with all weights, or low-rank updates of them, trainable.

    Args:
        folder: of the base.
        settings: of the trainable weights.
        seed: of the initial low-rank updates.
    """
    backbone = load_backbone(folder, settings.dtype)
    backbone.train_mode(settings.lora, settings.gradient_checkpointing, seed)
    return backbone
