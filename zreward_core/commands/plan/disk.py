"""Bytes and files that the stages write, and what they keep on disk until they end."""

from math import ceil
from typing import Any, NamedTuple

import torch
from torch import nn

from zreward_core.adapters import lora_layers
from zreward_core.commands.plan.backbone import Blueprint
from zreward_core.commands.plan.generator import TEXT_ENCODERS, GeneratorBlueprint
from zreward_core.commands.plan.rows import dtype_bytes
from zreward_core.commands.plan.use import Use
from zreward_core.diffusion.tuning import open_weights
from zreward_core.images import shards as images

MODEL_SHARD, GENERATOR_SHARD = 50e9, 10e9
"""Bytes of a file of weights, at most, by transformers and by diffusers."""
STATES = 2
"""Checkpoints that are kept of a stage; a third is there while it is written."""
TEXT_BYTES, ID_BYTES = 2.2, 2.0
"""Of a trace's token in a compressed Parquet file: as text, and as its id."""
ROW_BYTES = 100
"""Of a row of scores or labels; 80 to 105 in the demo."""


class Written(NamedTuple):
    """What a stage writes."""

    disk: float
    """Bytes of its output."""
    files: int
    peak: float
    """Most bytes at a time, with checkpoints and temporary files."""


def image_shards(number: int, size: float) -> int:
    """Files in which images of a mean size in bytes are stored; see ``write_images``."""
    group = min(ceil(images.GROUP_BYTES / size), images.SHARD_ROWS)
    groups = ceil(images.SHARD_BYTES / (group * size))
    return ceil(number / min(images.SHARD_ROWS, group * groups))


def trained_model(blueprint: Blueprint, config: Any, update: Use, copies: int) -> Written:
    """The output of a training stage, and its checkpoints.

    Args:
        update: of one process, unsharded.
        copies: of the trained weights in a checkpoint, besides those in training.
    """
    weights, adapter = merged_bytes(blueprint, config)
    shards = ceil(weights / MODEL_SHARD)
    # config, generation config, chat template, two of the tokenizer, preprocessor, card; and the
    # stage's config and history
    files = shards + (shards > 1) + 7 + 2 + (3 if config.lora else 0)
    state = (1 + copies) * update.adapters + update.optimizer
    if getattr(config, "keep", "last") == "best":
        state += update.adapters
    disk = weights + adapter
    return Written(disk, files, max(disk + STATES * state, (STATES + 1) * state))


def merged_bytes(blueprint: Blueprint, config: Any) -> tuple[float, float]:
    """Bytes of a trained model as ``Backbone.save`` writes it, and of the adapter beside it."""
    backbone = blueprint.build(config.dtype, config.lora, False, train=True)
    model = backbone.network.model
    adapter = sum(map(nbytes, backbone.trainable())) if config.lora else 0
    return _merged(model), float(adapter)


def generator_bytes(generator: GeneratorBlueprint, config: Any) -> tuple[float, float]:
    """Bytes of the transformer as tuning writes it, and of all else in the generator's folder."""
    painter = generator.build(config.dtype)
    if config.lora:
        with torch.device("meta"):
            open_weights(painter, config.lora.rank, config.lora.alpha, 0)
    adapter = sum(nbytes(p) for p in painter.transformer.parameters() if p.requires_grad)
    vae = sum(nbytes(p) for p in painter.pipe.vae.parameters())
    rest = vae + encoder_bytes(generator, config.dtype) + (adapter if config.lora else 0)
    return _merged(painter.transformer), float(rest)


def encoder_bytes(generator: GeneratorBlueprint, dtype: str) -> float:
    """Bytes of the text encoders."""
    return float(dtype_bytes(dtype) * generator.text_encoder_parameters)


def tuned_generator(
    generator: GeneratorBlueprint, config: Any, update: Use, samples: float
) -> Written:
    """The output of finetune_generator, its checkpoints and the samples in them.

    Args:
        samples: bytes of the images before and after tuning.
    """
    transformer, rest = generator_bytes(generator, config)
    shards = ceil(transformer / GENERATOR_SHARD)
    # index, scheduler, card; transformer, VAE; text encoders with tokenizers; eight of the stage
    files = 3 + shards + (shards > 1) + 1 + 2 + 5 * TEXT_ENCODERS[generator.pipeline] + 8
    files += 1 if config.lora else 0
    state = update.adapters + update.optimizer  # with the averages
    disk = transformer + rest
    return Written(disk, files, max(disk + STATES * state, (STATES + 1) * state) + samples)


def nbytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, on the meta device too."""
    return tensor.numel() * tensor.element_size()


def _merged(model: nn.Module) -> float:
    """Bytes of a model whose adapted layers have been merged in float32."""
    own = {id(p): p for name, p in model.named_parameters() if ".lora_" not in name}
    size = sum(map(nbytes, own.values()))
    for layer in lora_layers(model):
        for one in layer.get_base_layer().parameters():
            size += one.numel() * 4 - nbytes(one)
    return float(size)
