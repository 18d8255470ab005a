"""The reward model against plain transformers, finite differences and itself."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from zreward_core import RewardModel
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone, read_card
from zreward_core.models.pixels import PixelPath
from zreward_core.models.score_decoder import expected_score, score_log_probs


@pytest.fixture(scope="module")
def folder(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "student"
    backbone.save(path, {"made": "for a test"})
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> RewardModel:
    return RewardModel.from_pretrained(folder)


def test_scores_equal_a_plain_transformers_forward(
    folder: Path, model: RewardModel, prompts: list[str], images: list[np.ndarray]
) -> None:
    plain = AutoModelForImageTextToText.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels = PixelPath.from_pretrained(folder)
    card = read_card(folder)
    values, grid = pixels.patches([pixels.prepare(images[1])])
    image = "<|image_pad|>" * int(grid.prod() // 4)
    text = (
        "<|im_start|>system rate 1234<|im_end|>"
        f"<|im_start|>user<|vision_start|>{image}<|vision_end|>{prompts[1]}<|im_end|>"
        "<|im_start|>assistant<think></think> alignment? realism? charm"
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = plain(
            input_ids=ids,
            pixel_values=values,
            image_grid_thw=grid,
            mm_token_type_ids=(ids == plain.config.image_token_id).int(),
        ).logits[0]
    by_hand = torch.softmax(logits[[-5, -3, -1]][:, card["label_ids"]], -1)
    ours = model.score([prompts[1]], [images[1]]).probs[0]
    assert torch.allclose(ours, by_hand, atol=1e-5)


def test_batch_of_eight_equals_eight_single_ones(
    model: RewardModel, prompts: list[str], images: list[np.ndarray]
) -> None:
    together = model.score(prompts, images)
    for index, pair in enumerate(zip(prompts, images, strict=True)):
        alone = model.score([pair[0]], [pair[1]])
        assert torch.allclose(together.probs[index], alone.probs[0], atol=1e-5)
        assert torch.allclose(together.mass[index], alone.mass[0], atol=1e-5)


def test_reward_gradient_against_finite_differences(model: RewardModel) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, 48, 48, generator=generator) * 0.8 + 0.1
    pixels.requires_grad_(True)
    prompts = ["a red circle", "two blue stars on the right"]
    model.reward(prompts, pixels).sum().backward()
    assert pixels.grad is not None
    direction = torch.sign(pixels.grad)
    step = 2e-3
    with torch.no_grad():
        above = model.reward(prompts, pixels + step * direction).sum()
        below = model.reward(prompts, pixels - step * direction).sum()
    numeric = (above - below) / (2 * step)
    assert torch.allclose((pixels.grad * direction).sum(), numeric, rtol=2e-2)


def test_reward_equals_score_and_leaves_weights_without_gradient(
    model: RewardModel, prompts: list[str], images: list[np.ndarray]
) -> None:
    pixels = torch.from_numpy(images[0]).permute(2, 0, 1)[None].float() / 255
    reward = model.reward(prompts[:1], pixels)
    assert torch.allclose(reward, model.score(prompts[:1], images[:1]).mean, atol=1e-5)
    assert not any(p.requires_grad for p in model.backbone.network.parameters())


def test_scores_are_distributions_in_rubric_units(
    model: RewardModel, prompts: list[str], images: list[np.ndarray]
) -> None:
    scores = model.score(prompts, images, dimensions=["charm", "alignment"])
    assert scores.dimensions == ["charm", "alignment"]
    assert torch.allclose(scores.probs.sum(-1), torch.ones(8, 2))
    assert scores.mean.min() >= 1 and scores.mean.max() <= 4
    assert torch.allclose(scores.prefer(0, 1) + scores.prefer(1, 0), torch.ones(2))
    everything = model.score(prompts, images)
    assert torch.allclose(scores.probs[:, 1], everything.probs[:, 0])
    assert scores.rows()[3]["charm"]["mean"] == pytest.approx(scores.mean[3, 0].item())


def test_score_decoder_by_hand() -> None:
    logits = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    log_probs, mass = score_log_probs(logits, torch.tensor([1, 3]))
    assert torch.allclose(log_probs.exp(), torch.tensor([1 / 3, 2 / 3]))
    assert mass.item() == pytest.approx(0.6)
    mean = expected_score(log_probs.exp(), torch.tensor([1.0, 4.0]))
    assert mean.item() == pytest.approx(3.0)


def test_faults_of_users(model: RewardModel, images: list[np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"zreward\.json"):
        RewardModel.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        RewardModel.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match="one for each"):
        model.score(["a", "b"], images[:1])
    with pytest.raises(UserError, match="unknown dimensions"):
        model.score(["a"], images[:1], dimensions=["beauty"])


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, zreward_core; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
