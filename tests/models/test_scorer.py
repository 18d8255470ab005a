"""The reward model: rubric units, its two entry points, and messages for wrong arguments."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from zreward_core import RewardModel
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import expected_score, score_log_probs


@pytest.fixture(scope="module")
def folder(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "student"
    backbone.save(path, {"purpose": "test"})
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> RewardModel:
    return RewardModel.from_pretrained(folder)


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


def test_wrong_arguments_are_refused(
    model: RewardModel, images: list[np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"zreward\.json"):
        RewardModel.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        RewardModel.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match="one for each"):
        model.score(["a", "b"], images[:1])
    with pytest.raises(UserError, match="unknown dimensions"):
        model.score(["a"], images[:1], dimensions=["beauty"])
    with pytest.raises(UserError, match=r"row 1: the prompt 'red red .* shorten it"):
        model.score(["a", "red " * 2000], images[:2])


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, zreward_core; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
