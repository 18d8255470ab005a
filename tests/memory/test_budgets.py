"""What training of real size holds on a GPU of 80 GB, counted on fake tensors.

The language models' layers, the diffusion transformer and the VAE are those of the libraries.
What looks at values (positions, the choice of image tokens, the scheduler) is replaced; it holds
next to nothing. Linear attention is the reference implementation, whose states are larger than the
kernels'.
"""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu_models
from tests.memory.fake_memory import fake_memory, give_fake_weights
from zreward_core.diffusion.generator import Conditions
from zreward_core.diffusion.sampling import sample_with_gradients
from zreward_core.diffusion.tuning import open_weights, recompute_activations
from zreward_core.losses.grpo import grpo_loss
from zreward_core.losses.mass import mass_loss
from zreward_core.losses.refl import refl_loss, velocity_distance
from zreward_core.models import qwen3_5
from zreward_core.models.backbone import LoraSettings
from zreward_core.models.families import FAMILIES
from zreward_core.models.scorer import RewardModel
from zreward_core.models.traces import trace_log_probs

pytestmark = pytest.mark.slow
GB = 1e9
META = torch.device("meta")
LORA = LoraSettings(rank=64, alpha=128)
ADAMW = 2
"""Values of the optimizer for each weight."""

DOCUMENT = Path(__file__).parents[2] / "docs/launchers.md"


def documented(row: str) -> float:
    """Bytes that the documentation's table names first in a row."""
    (found,) = re.findall(rf"^\| {re.escape(row)}[^|]*\| (\d+)", DOCUMENT.read_text(), re.MULTILINE)
    return float(found) * GB


class Lengths:
    """Lengths of the images in the vision tower, which are read as numbers."""

    def __init__(self, patches: int) -> None:
        self.patches = patches

    def __getitem__(self, _: object) -> "Lengths":
        return self

    def __sub__(self, _: object) -> "Lengths":
        return self

    def tolist(self) -> list[int]:
        return [self.patches]


def encode_images(model: Any, values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    tower = model.model.visual
    hidden = tower.patch_embed(values)
    angles = torch.empty(len(hidden), tower.config.hidden_size // tower.config.num_heads)
    for block in tower.blocks:
        hidden = block(
            hidden, cu_seqlens=Lengths(len(hidden)), position_embeddings=(angles, angles)
        )
    return tower.merger(hidden)


def hidden_states(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor,
    images: Any = None,
    packing: Any = None,
) -> tuple[torch.Tensor, None]:
    text = model.model.language_model
    embeddings = text.embed_tokens(input_ids)
    if images is not None:
        embeddings = torch.cat([images[None].to(embeddings), embeddings[:, len(images) :]], 1)
    output = text(
        inputs_embeds=embeddings,
        attention_mask=attention_mask,
        position_ids=position_ids,
        **({} if packing is None else {"packing": packing}),
    )
    return output.last_hidden_state, None


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Qwen3.5 without what looks at values."""
    family = SimpleNamespace(
        TRACE_CLOSE=qwen3_5.TRACE_CLOSE,
        VISION_TOWER=qwen3_5.VISION_TOWER,
        encode_images=encode_images,
        select_images=lambda features, index: features,
        positions=lambda model, ids, mask, grid: torch.zeros(3, *ids.shape, dtype=torch.long),
        hidden_states=hidden_states,
    )
    monkeypatch.setitem(FAMILIES, "qwen3_5", family)
    return family


def update_of_a_pair(layers: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Peak bytes, besides the base's weights, of a GDSO update of 16 rows of 2,300 tokens."""
    monkeypatch.setitem(gpu_models.SIZES, "27B", gpu_models.SIZES["27B"] | {"layers": layers})
    teacher = gpu_models.backbone("27B", META, small=False)
    teacher.train_mode(LORA, gradient_checkpointing=True)
    token = teacher.chat.plain("red")[0]
    with fake_memory() as memory:
        give_fake_weights(teacher.network)
        memory.reset(below=[p for p in teacher.network.parameters() if not p.requires_grad])
        state = [torch.zeros_like(p) for p in teacher.trainable() for _ in range(ADAMW)]
        image, prompt = torch.zeros(3, 1024, 1024), " red" * 200
        prefix = teacher.prefix(prompt, image) + teacher.chat.questions[0]
        length = 2300 - len(prefix) - len(teacher.chat.closing)
        assert length > 950
        found = trace_log_probs(teacher, [prompt] * 2, [image] * 2, [0, 0], [[token] * length] * 16)
        tokens = found.log_probs_NT
        loss = grpo_loss(
            tokens, tokens.detach(), torch.ones(16), torch.ones_like(tokens).bool(), 0.001, 16
        )
        loss = loss + found.scores_NS.square().sum() + mass_loss(found.mass_N, 16)
        loss.backward()
        assert len(state) == ADAMW * len(teacher.trainable())
        return memory.peak


def test_update_of_a_pair_of_the_27b_teacher(
    family: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """123.5 GB with all logits at once; about 61 if the rows shared no prefix. 60 are allowed."""
    family.encode_images = lambda model, values, grid: None  # frozen: its activations are not kept
    small, large = (update_of_a_pair(layers, monkeypatch) for layers in (4, 8))
    peak = small + (large - small) * (64 - 4) / 4
    assert peak == pytest.approx(documented("update of `train_gdso`"), abs=GB / 2)


class Scheduler:
    """Three steps to the image."""

    timesteps = [torch.tensor(float(time)) for time in (900, 700, 400)]

    def step(
        self, velocity: torch.Tensor, timestep: torch.Tensor, latents: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor]:
        return (latents - 0.1 * velocity,)


def conditions() -> Conditions:
    captions = [torch.empty(length, 2560, dtype=torch.bfloat16) for length in (256, 32)]
    return Conditions({"captions": captions[:1]}, {"captions": captions[1:]}, 4.0)


def test_tuning_step_at_1024_pixels(
    family: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Z-Image through the 9B student: 140 GB plain, 75 allowed, the 27B panel's turn included."""
    generator = gpu_models.generator(META, small=False)
    generator.pipe.text_encoder = None  # on the CPU
    student = RewardModel(gpu_models.backbone("9B", META, small=False))
    open_weights(generator, LORA.rank, LORA.alpha, seed=0)
    recompute_activations(generator)
    student.backbone.recompute_activations()
    transformer = generator.transformer
    with fake_memory() as memory:
        monkeypatch.setattr(generator, "encode", lambda *_: conditions())
        monkeypatch.setattr(generator, "scheduler", lambda *_: Scheduler())
        for module in (transformer, generator.pipe.vae, student.backbone.network):
            give_fake_weights(module)
        weights = [p for p in transformer.parameters() if p.requires_grad]
        state = [torch.zeros_like(p) for p in weights for _ in range(ADAMW + 1)]  # and an average
        kept = sum(value.nbytes for value in [*state, *weights])
        samples = sample_with_gradients(
            generator,
            ["red"],
            torch.empty(1, 16, 128, 128),
            num_steps=3,
            gradient_steps=[0, 1, 2],
            guidance_scale=4.0,
        )
        loss = refl_loss(student.reward(["red"], samples.pixels), 1)
        for one in samples.steps:
            with torch.no_grad():
                frozen = generator.velocity(
                    transformer, one.latents, one.timestep, samples.conditions
                )
            loss = loss + velocity_distance(one.velocity, frozen, 3)
        loss.backward()
        peak = memory.peak
    assert peak == pytest.approx(documented("tuning step"), abs=GB / 2)
    panel = gpu_models.backbone("27B", META, small=False).network.parameters()
    held = sum(p.numel() * p.element_size() for p in panel) + kept
    assert held == pytest.approx(documented("validation during tuning"), abs=GB / 2)
