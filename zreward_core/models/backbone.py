"""Vision-language backbones: a checkpoint with its tokenizer, pixel path and chat format.

Shapes: I images, N sequences, L tokens, K last positions whose logits are computed,
V vocabulary, H hidden size.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from zreward_core.adapters import ADAPTER, keep_float32, merge, save_adapter
from zreward_core.config import Count, DtypeName, Settings
from zreward_core.models.card import CARD, card
from zreward_core.models.families import FAMILIES, Family
from zreward_core.models.pixels import PixelPath
from zreward_core.models.prompts import ChatFormat, PromptSettings
from zreward_core.models.score_decoder import Logits, Reader, read_logits, token_logits
from zreward_core.models.shared_prefix import Packing, pack, pays, share_prefixes
from zreward_core.rubric import Rubric
from zreward_core.schemas import write_json


class LoraSettings(Settings):
    """Low-rank adaptation of a backbone's language model; the vision tower stays frozen."""

    rank: Count
    """Rank of the update matrices."""
    alpha: Count
    """Scaling numerator; the update is scaled by alpha / rank."""
    targets: str = "all-linear"
    """Which modules of the language model are adapted, as peft's target_modules. Routed experts
    of a mixture are not linear layers and stay frozen with "all-linear"."""


class TrainedWeights(Settings):
    """Settings of the trainable weights of a backbone."""

    lora: LoraSettings | None = None
    """Train low-rank updates instead of all weights."""
    dtype: DtypeName = "float32"
    """Torch dtype of the weights."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""


class Network(nn.Module):
    """The forward pass behind every loss and score, as one module that FSDP can shard.

    Logits are computed for the last K positions only: sequences are padded on the left, so the
    positions of traces and scores are the last ones.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def family(self) -> Family:
        """The module of the model's family."""
        return FAMILIES[self.model.config.model_type]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor,
        grid: torch.Tensor,
        image_index: Sequence[int],
        num_last: int,
        label_ids: torch.Tensor | None = None,
        reader: Reader | None = None,
        packing: Packing | None = None,
    ) -> Any:
        """Logits [N, K, V] of sequences [N, L], or the outputs of a reader of them.

        Sequence n contains image image_index[n]. A reader needs the ids of the score tokens. With a
        packing the sequences are its prefixes, and the logits are those of its rows.
        """
        features = self.family.encode_images(self.model, pixel_values, grid)
        images = self.family.select_images(features, image_index)
        grid_N3 = grid[list(image_index)]
        positions = self.family.positions(self.model, input_ids, attention_mask, grid_N3)
        if packing is None:
            hidden, _ = self.family.hidden_states(
                self.model, input_ids, attention_mask, positions, images
            )
            last = hidden[:, -num_last:]
        else:
            share_prefixes(self.model.model.language_model.layers)
            positions = packing.positions(positions)
            hidden, _ = self.family.hidden_states(
                self.model, packing.ids_T[None], None, positions, images, packing=packing
            )
            last = hidden[0][packing.last_NK]
        if reader is None or label_ids is None:
            return self.model.lm_head(last)
        vocabulary = self.model.config.get_text_config().vocab_size
        return read_logits(self.model.lm_head, last, vocabulary, label_ids, reader)

    def prefill(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor,
        grid: torch.Tensor,
    ) -> tuple[Any, torch.Tensor]:
        """The cache of sequences [N, L] with one image each, and their positions [axes, N, L]."""
        features = self.family.encode_images(self.model, pixel_values, grid)
        images = self.family.select_images(features, range(len(grid)))
        positions = self.family.positions(self.model, input_ids, attention_mask, grid)
        _, cache = self.family.hidden_states(
            self.model, input_ids, attention_mask, positions, images, use_cache=True
        )
        return cache, positions

    def decode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        label_ids: torch.Tensor,
    ) -> Logits:
        """Logits [N, V] after tokens [N, L] that continue a cache, which grows by them."""
        hidden, _ = self.family.hidden_states(
            self.model, input_ids, attention_mask, positions, cache=cache, use_cache=True
        )
        return token_logits(self.model.lm_head, hidden[:, -1], label_ids)


class Backbone:
    """A vision-language model that takes images and prompts in this project's chat format."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        pixels: PixelPath,
        rubric: Rubric,
        prompt: PromptSettings,
        source: str = "the model",
    ) -> None:
        self.network = Network(model)
        self.source = source
        self.folder: Path | None = None
        """Absolute path of the files it was loaded from; None if it was built in memory."""
        prompt = with_trace_close(prompt, self.network.family)
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.rubric = rubric
        self.prompt = prompt
        self.chat = chat_format(model.config, tokenizer, pixels, rubric, prompt)
        self.levels = torch.tensor(rubric.levels, dtype=torch.float32)
        self.label_ids = torch.tensor(self.chat.label_ids)
        self.pad_id = tokenizer.pad_token_id or 0
        self.length_multiple = 1  # sequences are padded to a multiple of this
        self.adapted: Any = None
        """The model with its low-rank updates, where they are apart from the weights."""
        self.engine: Any = None
        """An ``engine.Engine`` that samples traces in place of this model."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def collate(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Sequences of unequal length as ids and mask [N, L], padded on the left."""
        longest = max(len(row) for row in rows)
        length = -(-longest // self.length_multiple) * self.length_multiple
        ids = torch.full((len(rows), length), self.pad_id)
        mask = torch.zeros(len(rows), length, dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, length - len(row) :] = torch.tensor(row)
            mask[index, length - len(row) :] = 1
        return ids.to(self.device), mask.to(self.device)

    def logits(
        self,
        rows: Sequence[list[int]],
        images: Sequence[torch.Tensor],
        image_index: Sequence[int],
        num_last: int,
    ) -> torch.Tensor:
        """Logits [N, K, V] at the last positions of sequences; for arguments see ``read``."""
        return self.network(*self._inputs(rows, images), list(image_index), num_last)

    def read(
        self,
        rows: Sequence[list[int]],
        images: Sequence[torch.Tensor],
        image_index: Sequence[int],
        num_last: int,
        reader: Reader,
        prefixes: Sequence[list[int]] | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Outputs of a reader of the logits at the last positions, see ``read_logits``.

        Args:
            rows: N token sequences, each with one image's placeholder tokens.
            images: resized images [3, h, w]; each passes through the vision tower once.
            image_index: index of the image in each sequence.
            num_last: K.
            reader: of the logits.
            prefixes: beginnings of rows, image included, each that of as many adjacent rows; the
                forward of one is shared by its rows where that pays.
        """
        if prefixes is not None and pays(prefixes, len(rows)):
            group = len(rows) // len(prefixes)
            tails = [row[len(prefixes[n // group]) :] for n, row in enumerate(rows)]
            packing = pack(prefixes, tails, num_last, self.device)
            inputs, index = self._inputs(prefixes, images), list(image_index)[::group]
            return self.network(*inputs, index, num_last, self.label_ids, reader, packing)
        inputs, index = self._inputs(rows, images), list(image_index)
        return self.network(*inputs, index, num_last, self.label_ids, reader)

    def _inputs(
        self, rows: Sequence[list[int]], images: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        values, grid = self.pixels.patches(images)
        return *self.collate(rows), values.to(self.device), grid.to(self.device)

    def prefix(self, prompt: str, image: torch.Tensor) -> list[int]:
        """Tokens of system text, image and prompt; image is resized pixels [3, h, w]."""
        return self.chat.prefix(prompt, self.pixels.num_tokens(image.shape[-2], image.shape[-1]))

    def train_mode(
        self, lora: LoraSettings | None, gradient_checkpointing: bool = False, seed: int = 0
    ) -> None:
        """Make the weights trainable: all of them, or low-rank updates of the language model.

        Args:
            seed: of the initial low-rank updates.
        """
        self.network.train()
        if gradient_checkpointing:
            self.recompute_activations()
        if self.adapted is not None:  # of a trained model that is trained again
            dtype = self.network.model.dtype
            merge(self.network.model)
            self.network.model = self.adapted.unload().to(self.device, dtype)
            self.adapted = None
            self.network.model.requires_grad_(True)
        if lora is not None:
            from peft import LoraConfig, get_peft_model

            vision = re.escape(self.network.family.VISION_TOWER)
            config = LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,
                target_modules=lora.targets,
                exclude_modules=rf"{vision}\..*",
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adapted = get_peft_model(self.network.model, config)
            self.network.model = self.adapted.get_base_model()
            keep_float32(self.network.model)

    def recompute_activations(self) -> None:
        """Recompute the activations of each layer in the backward pass, to save memory.

        Layers do so in training mode only; no family has dropout, so it changes nothing else, but
        keeps no cache: use evaluation mode to sample.
        """
        self.network.train()
        self.network.model.activation_checkpointing_enable()

    def trainable(self) -> list[nn.Parameter]:
        """The weights that training changes."""
        return [p for p in self.network.parameters() if p.requires_grad]

    def snapshot(self) -> list[torch.Tensor]:
        """A copy of the trainable weights."""
        return [parameter.detach().clone() for parameter in self.trainable()]

    @contextmanager
    def using(self, weights: list[torch.Tensor]) -> Iterator[None]:
        """Use other trainable weights in a block, such as those of a frozen reference."""
        parameters = self.trainable()
        kept = [parameter.data for parameter in parameters]
        for parameter, value in zip(parameters, weights, strict=True):
            parameter.data = value
        try:
            yield
        finally:
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.data = value

    def save(self, folder: Path, lineage: dict[str, Any]) -> None:
        """Write a plain transformers checkpoint and its card ``zreward.json``.

        Low-rank updates are merged in float32, and written as a peft adapter beside it as well.
        """
        model = self.network.model
        if self.adapted is not None:
            save_adapter(self.adapted, folder / ADAPTER)
            merge(model)
            model = self.adapted.unload()
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.pixels.processor.save_pretrained(folder)
        write_json(card(self.rubric, self.prompt, self.chat.label_ids, lineage), folder / CARD)


def chat_format(
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    pixels: PixelPath,
    rubric: Rubric,
    prompt: PromptSettings,
) -> ChatFormat:
    """The chat format of a checkpoint, given its transformers config."""
    positions = config.get_text_config().max_position_embeddings - pixels.max_tokens
    return ChatFormat(tokenizer, prompt, rubric, config.image_token_id, positions)


def with_trace_close(prompt: PromptSettings, family: Family) -> PromptSettings:
    """The settings with the family's token that ends a trace, where they name none."""
    if prompt.think_close is not None:
        return prompt
    return prompt.model_copy(update={"think_close": family.TRACE_CLOSE})
