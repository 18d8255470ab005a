"""The contract of a model family, on a tiny model of each: every entry of FAMILIES is tested."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForImageTextToText

from tests.models.conftest import PROMPT
from tests.tiny_models import build_family
from zreward_core.config import UserError
from zreward_core.models import qwen3_5
from zreward_core.models.backbone import Backbone, LoraSettings, TrainedWeights
from zreward_core.models.card import card
from zreward_core.models.families import FAMILIES
from zreward_core.models.loading import load_backbone, open_backbone
from zreward_core.models.rollouts import Rollouts, closed_sequence, sample_rollouts
from zreward_core.models.score_decoder import expected_score, score_log_probs
from zreward_core.models.scorer import RewardModel, student_scores
from zreward_core.models.traces import trace_log_probs
from zreward_core.rubric import Rubric
from zreward_core.schemas import write_json

QUERIES = [(0, 0), (1, 2), (3, 1), (1, 0)]
GROUP = 2
HYBRID = ("qwen3_5", "qwen3_5_moe")
"""Families with layers of linear attention."""


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, rubric: Rubric) -> Backbone:
    texts = ["a red circle at the top left", "two blue stars"]
    return build_family(request.param, texts, rubric, PROMPT)


@pytest.fixture
def pixels(family: Backbone, images: list[np.ndarray]) -> list[torch.Tensor]:
    return [family.pixels.prepare(image) for image in images[:4]]


def roll(
    backbone: Backbone, prompts: list[str], pixels: list[torch.Tensor], **options: Any
) -> Rollouts:
    return sample_rollouts(
        backbone, prompts[:4], pixels, QUERIES, GROUP, 6, [11, 12, 13, 14], **options
    )


def chat(backbone: Backbone, text: str, thinking: bool) -> str:
    """System text, an image and a user's text, rendered by the tokenizer's chat template."""
    content = [{"type": "image"}, {"type": "text", "text": text}]
    system = PROMPT.system.format(labels="1234")
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system},
        {"role": "user", "content": content},
    ]
    rendered = backbone.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    assert isinstance(rendered, str)
    return rendered


def encode(backbone: Backbone, text: str) -> list[int]:
    return backbone.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_teacher_sequence_is_the_chat_template(family: Backbone) -> None:
    ours = family.chat.prefix("a red circle", 1) + family.chat.questions[1]
    assert ours == encode(family, chat(family, "a red circle realism", thinking=True))


def test_student_answers_outside_a_thinking_block(family: Backbone) -> None:
    text = family.tokenizer.decode(family.chat.prefix("a red circle", 1) + family.chat.lines)
    assert text.endswith(" alignment? realism? charm")
    assert text.count("<think>") == text.count("</think>")


def test_batch_of_eight_equals_eight_single_ones(
    family: Backbone, prompts: list[str], images: list[np.ndarray]
) -> None:
    model = RewardModel(copy.deepcopy(family))
    together = model.score(prompts, images)
    assert len({image.shape for image in images}) > 4
    for index, pair in enumerate(zip(prompts, images, strict=True)):
        alone = model.score([pair[0]], [pair[1]])
        assert torch.allclose(together.probs[index], alone.probs[0], atol=1e-5)
        assert torch.allclose(together.mass[index], alone.mass[0], atol=1e-5)


@torch.no_grad()
def test_scores_equal_a_plain_transformers_forward(
    family: Backbone, prompts: list[str], images: list[np.ndarray], tmp_path: Path
) -> None:
    family.save(tmp_path / "model", {})
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").eval()
    values, grid = family.pixels.patches([family.pixels.prepare(images[1])])
    opening = chat(family, prompts[1], thinking=False)
    if opening.endswith("<think>\n"):
        opening += "\n</think>\n\n"
    opening = opening.replace("<|image_pad|>", "<|image_pad|>" * int(grid.prod() // 4))
    labels = encode(family, "1234")
    by_hand = []
    for lines in (" alignment", " alignment? realism", " alignment? realism? charm"):
        ids = torch.tensor([encode(family, opening + lines)])
        logits = plain(
            input_ids=ids,
            pixel_values=values,
            image_grid_thw=grid,
            mm_token_type_ids=(ids == plain.config.image_token_id).int(),
        ).logits[0, -1]
        by_hand.append(torch.softmax(logits[labels], -1))
    ours = RewardModel(load_backbone(tmp_path / "model")).score([prompts[1]], [images[1]])
    assert torch.allclose(ours.probs[0], torch.stack(by_hand), atol=1e-5)


@torch.no_grad()
def test_score_after_a_rollout_equals_the_teacher_forced_one(
    family: Backbone, prompts: list[str], pixels: list[torch.Tensor]
) -> None:
    rollouts = roll(family, prompts, pixels)
    for n, trace in enumerate(rollouts.tokens):
        image, dimension = QUERIES[n // GROUP]
        row = family.prefix(prompts[image], pixels[image]) + family.chat.questions[dimension]
        row = row + closed_sequence(family, trace)
        logits = family.logits([row], [pixels[image]], [0], 1)[:, 0]
        log_probs, mass = score_log_probs(logits, family.label_ids)
        assert torch.allclose(log_probs[0], rollouts.log_probs[n], atol=1e-4)
        assert torch.allclose(mass[0], rollouts.mass[n], atol=1e-5)
    image, dimension = zip(*QUERIES, strict=True)
    shown, asked = [prompts[i] for i in image], [pixels[i] for i in image]
    found = trace_log_probs(family, shown, asked, dimension, rollouts.tokens)
    assert torch.allclose(found.scores_NS, rollouts.log_probs, atol=1e-4)


def test_pixel_gradient_against_finite_differences(family: Backbone) -> None:
    model = RewardModel(copy.deepcopy(family))
    for module in model.backbone.network.modules():
        if hasattr(module, "top_k"):  # a token that changes its experts would be a discontinuity
            module.top_k = module.num_experts
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, 48, 48, generator=generator) * 0.8 + 0.1
    pixels.requires_grad_(True)
    prompts = ["a red circle", "two blue stars"]
    model.reward(prompts, pixels).sum().backward()
    assert pixels.grad is not None
    direction = torch.sign(pixels.grad)
    step = 1e-3
    with torch.no_grad():
        above = model.reward(prompts, pixels + step * direction).sum()
        below = model.reward(prompts, pixels - step * direction).sum()
    numeric = (above - below) / (2 * step)
    assert torch.allclose((pixels.grad * direction).sum(), numeric, rtol=2e-2)


def test_recomputed_activations_change_no_gradient(family: Backbone, prompts: list[str]) -> None:
    """As tuning a generator uses the student: frozen, with gradients of the pixels."""
    model = RewardModel(copy.deepcopy(family))
    pixels = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    computed = []
    layer = model.backbone.network.model.model.language_model.layers[0]
    layer.input_layernorm.register_forward_hook(lambda *_: computed.append(1))

    def gradient() -> torch.Tensor:
        own = pixels.clone().requires_grad_()
        model.reward(prompts[:2], own).square().sum().backward()
        assert own.grad is not None
        return own.grad

    plain = gradient()
    model.backbone.recompute_activations()
    torch.testing.assert_close(gradient(), plain)
    assert len(computed) == 3


def test_forbidden_tokens_are_never_sampled(
    family: Backbone, prompts: list[str], pixels: list[torch.Tensor]
) -> None:
    backbone = copy.deepcopy(family)
    model, forbidden = backbone.network.model, backbone.chat.forbidden
    for name in ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|im_start|>"):
        assert backbone.tokenizer.convert_tokens_to_ids(name) in forbidden
    head = nn.Linear(model.lm_head.in_features, model.lm_head.out_features)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[forbidden] = 100.0
        model.lm_head = head
        row = backbone.prefix(prompts[0], pixels[0]) + backbone.chat.questions[0]
        assert int(backbone.logits([row], pixels[:1], [0], 1).argmax()) in forbidden
    for temperature in (0.0, 1.0):
        rollouts = roll(backbone, prompts, pixels, temperature=temperature)
        sampled = {token for trace in rollouts.tokens for token in trace}
        assert sampled and not (sampled | set(rollouts.answers.tolist())) & set(forbidden)


def test_lora_adapts_the_language_model_only_and_is_merged_by_save(
    family: Backbone, prompts: list[str], pixels: list[torch.Tensor], tmp_path: Path
) -> None:
    backbone = copy.deepcopy(family)
    before = {name: p.clone() for name, p in backbone.network.model.state_dict().items()}
    backbone.train_mode(LoraSettings(rank=2, alpha=8), seed=5)
    adapted = [name for name, p in backbone.network.model.named_parameters() if p.requires_grad]
    assert adapted and all(name.startswith("model.language_model.layers.") for name in adapted)
    optimizer = torch.optim.SGD(backbone.trainable(), lr=1.0)
    for _ in range(2):  # one half of each update starts at zero
        log_probs, _ = student_scores(backbone, prompts[:4], pixels)
        expected_score(log_probs.exp(), backbone.levels).mean().neg().backward()
        optimizer.step()
        optimizer.zero_grad()
    backbone.network.eval()
    with torch.no_grad():
        untrained, _ = student_scores(family, prompts[:4], pixels)
        trained, _ = student_scores(backbone, prompts[:4], pixels)
    assert (trained - untrained).abs().max() > 1e-3
    backbone.save(tmp_path / "model", {})
    with torch.no_grad():
        reloaded = load_backbone(tmp_path / "model")
        scores, _ = student_scores(reloaded, prompts[:4], pixels)
    assert torch.allclose(scores, trained, atol=1e-4)
    after = reloaded.network.model.state_dict()
    assert set(after) == set(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("model.language_model.layers.") for name in changed)
    assert not [name for name in load_file(tmp_path / "model/model.safetensors") if "lora" in name]


def test_an_opened_base_has_all_settings_of_training(family: Backbone, tmp_path: Path) -> None:
    family.save(tmp_path / "model", {})
    lora = LoraSettings(rank=2, alpha=8)
    settings = TrainedWeights(lora=lora, dtype="bfloat16", gradient_checkpointing=True)
    one, two, other = (open_backbone(tmp_path / "model", settings, seed) for seed in (1, 1, 2))
    assert one.network.model.dtype == torch.bfloat16
    assert one.network.model.is_activation_checkpointing
    for first, second in zip(one.trainable(), two.trainable(), strict=True):
        assert torch.equal(first, second)
    drawn = [model.trainable()[0] for model in (one, other)]
    assert drawn[0].abs().max() > 0 and not torch.equal(*drawn)


@pytest.mark.parametrize("model_type", ["llava", "qwen3_5_text"])
def test_unknown_family_is_refused_before_weights_are_read(
    model_type: str, rubric: Rubric, tmp_path: Path
) -> None:
    write_json(card(rubric, PROMPT, None, {}), tmp_path / "zreward.json")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UserError) as caught:
        load_backbone(tmp_path)
    for part in (str(tmp_path), repr(model_type), *FAMILIES):
        assert part in str(caught.value)


def test_folder_without_a_checkpoint_is_refused(rubric: Rubric, tmp_path: Path) -> None:
    write_json(card(rubric, PROMPT, None, {}), tmp_path / "zreward.json")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_backbone(tmp_path)


def test_missing_gpu_kernels_of_linear_attention_are_named_once(
    family: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a GPU only, which is a fake tensor's here, and only for families that have such layers."""
    model, hybrid = family.network.model, family.network.model.config.model_type in HYBRID
    qwen3_5._has_kernels.cache_clear()
    qwen3_5._warn_once.cache_clear()
    assert qwen3_5.lacks_kernels(model, "cuda") == hybrid
    assert not qwen3_5.lacks_kernels(model, "cpu")
    with FakeTensorMode():
        for device in ("cpu", "cuda", "cuda"):
            ids = torch.empty(1, 20, dtype=torch.long, device=device)
            settings = qwen3_5._kernel_settings(model, ids)
            assert bool(settings) == (hybrid and device == "cpu")
    told = [record.message for record in caplog.records]
    assert len(told) == hybrid and all("pip install 'zreward[gpu]'" in line for line in told)

    (tmp_path / "fla.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    qwen3_5._has_kernels.cache_clear()
    assert not qwen3_5.lacks_kernels(model, "cuda")
    qwen3_5._has_kernels.cache_clear()
