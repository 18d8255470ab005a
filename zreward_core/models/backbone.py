"""Vision-language backbones: a checkpoint, its tokenizer, pixel path and chat format together.

Shapes: N sequences, L tokens, K last positions whose logits are wanted, V vocabulary.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, AutoTokenizer, PreTrainedTokenizerBase

from zreward_core.config import Settings, UserError
from zreward_core.models.pixels import PixelPath
from zreward_core.models.prompts import TEMPLATE_VERSION, ChatFormat, PromptSettings
from zreward_core.rubric import Rubric
from zreward_core.schemas import read_json, write_json

CARD = "zreward.json"


class LoraSettings(Settings):
    """Low-rank adaptation of a backbone's language model."""

    rank: int
    """Rank of the update matrices."""
    alpha: int
    """Scaling numerator; the update is scaled by alpha / rank."""
    targets: str = "all-linear"
    """Which modules are adapted, as peft's target_modules."""


class TrainedWeights(Settings):
    """How the weights of a backbone are opened for training."""

    lora: LoraSettings | None = None
    """Train low-rank updates instead of all weights."""
    dtype: str = "float32"
    """Torch dtype of the weights."""
    gradient_checkpointing: bool = False
    """Trade compute for memory."""


class Network(nn.Module):
    """The forward pass every loss and score uses, wrapped for accelerate.

    Logits are computed for the last K positions only: sequences are padded on the left, so the
    positions of traces and scores are the last ones.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor,
        grid: torch.Tensor,
        image_index: torch.Tensor,
        num_last: int,
    ) -> torch.Tensor:
        """Logits [N, K, V] of sequences [N, L]; sequence n shows image image_index[n]."""
        features = self.model.model.get_image_features(pixel_values, grid, return_dict=True)
        images = features.pooler_output
        positions = self.positions(input_ids, attention_mask, grid[image_index.to(grid.device)])
        hidden = self.model.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=positions,
            mm_encoder_outputs={
                "image": SimpleNamespace(pooler_output=[images[i] for i in image_index.tolist()])
            },
            use_cache=False,
        ).last_hidden_state
        return self.model.lm_head(hidden[:, -num_last:])

    def positions(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, grid: torch.Tensor
    ) -> torch.Tensor:
        """Multimodal rotary positions [3, N, L]; padding takes none."""
        kinds = (input_ids == self.model.config.image_token_id).int()
        positions, _ = self.model.model.get_rope_index(
            input_ids, mm_token_type_ids=kinds, image_grid_thw=grid, attention_mask=attention_mask
        )
        return positions


class Backbone:
    """A vision-language model that reads images and prompts in this project's chat format."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        pixels: PixelPath,
        rubric: Rubric,
        prompt: PromptSettings,
    ) -> None:
        self.network = Network(model)
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.rubric = rubric
        self.prompt = prompt
        self.chat = ChatFormat(tokenizer, prompt, rubric, model.config.image_token_id)
        self.levels = torch.tensor(rubric.levels)
        self.label_ids = torch.tensor(self.chat.label_ids)
        self.pad_id = tokenizer.pad_token_id or 0
        self.adapted: Any = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def collate(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Sequences of unequal length as ids and mask [N, L], padded on the left."""
        length = max(len(row) for row in rows)
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
        network: nn.Module | None = None,
    ) -> torch.Tensor:
        """Logits [N, K, V] at the last positions of sequences.

        Args:
            rows: N token sequences, each with one image's placeholder tokens.
            images: resized images [3, h, w]; each is seen once by the vision tower.
            image_index: which image each sequence shows.
            num_last: K.
            network: the wrapped network where accelerate has prepared one.
        """
        ids, mask = self.collate(rows)
        values, grid = self.pixels.patches(images)
        return (network or self.network)(
            ids,
            mask,
            values.to(self.device),
            grid.to(self.device),
            torch.as_tensor(image_index),
            num_last,
        )

    def prefix(self, prompt: str, image: torch.Tensor) -> list[int]:
        """Tokens of system text, image and prompt; image is resized pixels [3, h, w]."""
        return self.chat.prefix(prompt, self.pixels.num_tokens(image.shape[-2], image.shape[-1]))

    def train_mode(
        self, lora: LoraSettings | None, gradient_checkpointing: bool = False, seed: int = 0
    ) -> None:
        """Make the weights trainable: all of them, or low-rank updates of the language model.

        Args:
            seed: low-rank updates start at random.
        """
        self.network.train()
        if gradient_checkpointing:
            self.network.model.gradient_checkpointing_enable()
        if lora is not None:
            from peft import LoraConfig, get_peft_model

            config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adapted = get_peft_model(self.network.model, config)
            self.network.model = self.adapted.get_base_model()

    def trainable(self) -> list[nn.Parameter]:
        """The weights that training changes."""
        return [p for p in self.network.parameters() if p.requires_grad]

    def snapshot(self) -> list[torch.Tensor]:
        """A copy of the trainable weights."""
        return [parameter.detach().clone() for parameter in self.trainable()]

    @contextmanager
    def using(self, weights: list[torch.Tensor]) -> Iterator[None]:
        """Within the block the trainable weights are these (a frozen reference, an average)."""
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
        """Write a plain transformers checkpoint and its card ``zreward.json``."""
        model = self.network.model
        if self.adapted is not None:
            model = self.adapted.merge_and_unload()
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.pixels.processor.save_pretrained(folder)
        write_json(card(self.rubric, self.prompt, self.chat.label_ids, lineage), folder / CARD)


def card(
    rubric: Rubric, prompt: PromptSettings, label_ids: list[int] | None, lineage: dict[str, Any]
) -> dict[str, Any]:
    """Content of ``zreward.json``: what is needed to read scores from a checkpoint."""
    return {
        "dimensions": rubric.names,
        "levels": rubric.levels,
        "label_ids": label_ids,
        "prompt_template_version": TEMPLATE_VERSION,
        "prompt": prompt.model_dump(),
        "rubric": rubric.model_dump(mode="json"),
        "rubric_sha256": rubric.sha256,
        "lineage": lineage,
    }


def read_card(folder: Path) -> dict[str, Any]:
    """Read a model folder's card.

    Raises:
        UserError: the folder or its card is missing or unreadable.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name the folder of a model")
    if not (folder / CARD).is_file():
        raise UserError(
            f"{folder} has no {CARD}: it was not made by this project; name the folder that a "
            "stage wrote, such as data/train_risd/student"
        )
    content = read_json(folder / CARD)
    missing = {"rubric", "prompt", "prompt_template_version"} - set(content)
    if missing:
        raise UserError(f"{folder / CARD} lacks {sorted(missing)}: make the model again")
    if content["prompt_template_version"] != TEMPLATE_VERSION:
        raise UserError(f"{folder / CARD} is of another prompt template: make the model again")
    return content


def load_backbone(folder: str | Path, dtype: str = "float32") -> Backbone:
    """Load a model folder, or the hub checkpoint that its card points to.

    Args:
        folder: a folder with ``zreward.json``.
        dtype: name of the torch dtype of the weights.

    Raises:
        UserError: no such folder, no card, or no readable checkpoint.
    """
    folder = Path(folder)
    content = read_card(folder)
    source, revision = content.get("hub_id") or str(folder), content.get("revision") or "main"
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            source, revision=revision, dtype=getattr(torch, dtype)
        )
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        pixels = PixelPath.from_pretrained(source, revision)
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{source} holds no readable checkpoint: {error}") from None
    rubric, prompt = Rubric(**content["rubric"]), PromptSettings(**content["prompt"])
    backbone = Backbone(model, tokenizer, pixels, rubric, prompt)
    backbone.network.eval()
    return backbone


def open_backbone(folder: Path, settings: TrainedWeights) -> Backbone:
    """A base with its weights, or low-rank updates of them, open for training."""
    backbone = load_backbone(folder, settings.dtype)
    backbone.train_mode(settings.lora)
    return backbone
