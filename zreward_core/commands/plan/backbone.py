"""A backbone of real size without weights, for counting memory on fake tensors.

Config and image processor are those of the checkpoint where it is on this machine (a folder, or the
hub's cache); for some hub models the figures of their configs are in ``figures``. Where there is no
tokenizer, a stand-in with a token for each word of the rubric takes its place.
"""

import copy
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from zreward_core.commands.plan.fake_run import FakeRun
from zreward_core.config import UserError
from zreward_core.models import qwen3_5
from zreward_core.models.backbone import Backbone, LoraSettings
from zreward_core.models.pixels import PixelPath
from zreward_core.models.prompts import PromptSettings
from zreward_core.models.tiny import (
    IMAGE,
    VIDEO,
    VISION_END,
    VISION_START,
    build_tokenizer,
    prompt_words,
)
from zreward_core.rubric import Rubric

FIGURES = Path(__file__).parent / "figures"
DEPTHS = (4, 8)
"""Layers of the language models that are run in place of a deeper one; both hold whole periods of
linear and full attention."""
GPU_CHUNK = 64
"""Tokens in a chunk of linear attention on a GPU."""


@dataclass(frozen=True, eq=False)
class Blueprint:
    """What is needed to build a backbone without its weights."""

    config: Any
    """transformers config."""
    tokenizer: PreTrainedTokenizerBase
    preprocessor: dict[str, Any]
    """Content of preprocessor_config.json."""
    max_pixels: int | None
    rubric: Rubric
    prompt: PromptSettings

    @property
    def num_layers(self) -> int:
        """Layers of the language model."""
        return self.config.get_text_config().num_hidden_layers

    @property
    def pixels(self) -> PixelPath:
        """How images are resized."""
        return PixelPath(Qwen2VLImageProcessorPil(**self.preprocessor), self.max_pixels)

    def build(
        self,
        dtype: str,
        lora: LoraSettings | None,
        gradient_checkpointing: bool,
        depth: int | None = None,
        train: bool = False,
    ) -> Backbone:
        """The backbone on the meta device.

        Args:
            depth: layers of the language model, all if None.
            train: make weights trainable.
        """
        config = copy.deepcopy(self.config)
        text = config.get_text_config()
        if depth is not None:
            text.num_hidden_layers = depth
            if getattr(text, "layer_types", None):
                text.layer_types = text.layer_types[:depth]
        with torch.device("meta"):
            model: Any = AutoModelForImageTextToText.from_config(
                config, dtype=getattr(torch, dtype)
            )
        backbone = Backbone(
            model.eval(),
            self.tokenizer,
            self.pixels,
            self.rubric,
            self.prompt,
        )
        if train:
            with torch.device("meta"):
                backbone.train_mode(lora, gradient_checkpointing)
        return backbone


def read_blueprint(
    source: str, revision: str, max_pixels: int | None, rubric: Rubric, prompt: PromptSettings
) -> Blueprint:
    """The blueprint of a checkpoint; nothing is downloaded.

    Args:
        source: folder or hub id.

    Raises:
        UserError: neither a folder, nor in the hub's cache, nor one whose figures are known.
    """
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, local_files_only=True)
        processor = Qwen2VLImageProcessorPil.from_pretrained(
            source, revision=revision, local_files_only=True
        )
        return Blueprint(config, tokenizer, processor.to_dict(), max_pixels, rubric, prompt)
    except OSError:
        known = FIGURES / f"{source.replace('/', '--')}.json"
        if not known.is_file():
            raise UserError(
                f"the config of {source} is not on this machine: `hf download {source} --include"
                " '*.json' '*.jinja'` and run it again, or give the path of a local checkpoint"
            ) from None
    figures = json.loads(known.read_text())
    levels = [text for one in rubric.dimensions for text in one.levels.values()]
    tokenizer = build_tokenizer([*prompt_words(rubric, prompt), *levels, "(", ")", "1.", ".5"])
    config = AutoConfig.for_model(**figures["config"])
    for key, token in {
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_start_token_id": VISION_START,
        "vision_end_token_id": VISION_END,
    }.items():
        setattr(config, key, tokenizer.convert_tokens_to_ids(token))
    return Blueprint(config, tokenizer, figures["preprocessor"], max_pixels, rubric, prompt)


def prepare(backbone: Backbone, run: FakeRun) -> int:
    """Give a backbone fake weights, within a fake run; returns their bytes."""
    model = backbone.network.model.model
    model.get_rope_index = run.really(model.get_rope_index)  # reads values out of tensors
    qwen3_5.CHUNK = GPU_CHUNK
    backbone.levels = torch.tensor(backbone.rubric.levels)
    backbone.label_ids = torch.tensor(backbone.chat.label_ids)
    return run.weigh(backbone.network)


def weight_bytes(backbone: Backbone) -> tuple[int, int]:
    """Bytes of the frozen and of the trainable weights of a backbone on the meta device."""
    sizes = {True: 0, False: 0}
    for parameter in {id(p): p for p in backbone.network.parameters()}.values():
        sizes[parameter.requires_grad] += parameter.numel() * parameter.element_size()
    return sizes[False], sizes[True]


@functools.cache
def whole_bytes(blueprint: Blueprint, dtype: str) -> float:
    """Bytes of the weights of a base."""
    return float(sum(weight_bytes(blueprint.build(dtype, None, False))))


@functools.cache
def gathered_bytes(blueprint: Blueprint, dtype: str, resharded: bool = True) -> float:
    """Bytes of the weights that FSDP has whole at a time: two layers, and what is in none.

    Embeddings and the output layer are whole from the forward to the end of the backward pass.

    Args:
        resharded: layers are freed after the forward pass; else, all are whole at its end.
    """
    if not resharded:
        return whole_bytes(blueprint, dtype)
    model = blueprint.build(dtype, None, False).network.model
    layers = [part for part in model.modules() if type(part).__name__ in model._no_split_modules]
    sizes = [sum(p.numel() * p.element_size() for p in part.parameters()) for part in layers]
    inside = {id(p) for part in layers for p in part.parameters()}
    outside = {id(p): p for p in model.parameters() if id(p) not in inside}
    rest = sum(p.numel() * p.element_size() for p in outside.values())
    return float(rest + 2 * max(sizes))
