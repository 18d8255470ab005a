"""The reward model: rubric units, its entry points, and messages for wrong arguments."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zreward_core import RewardModel
from zreward_core.config import UserError
from zreward_core.models import scorer
from zreward_core.models.backbone import Backbone
from zreward_core.models.score_decoder import expected_score, score_log_probs
from zreward_core.models.scores import Scores, join_scores
from zreward_core.rubric import Rubric


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
    named = model.score(prompts, images, dimensions=np.array(["charm", "alignment"]))
    assert torch.equal(named.probs, scores.probs)
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
    with pytest.raises(UserError, match=r"dimensions is \[\]: pass names from"):
        model.score(["a"], images[:1], dimensions=[])
    with pytest.raises(UserError, match=r"row 1: the prompt 'red red .* shorten it"):
        model.score(["a", "red " * 2000], images[:2])


def test_a_score_does_not_depend_on_the_batch(
    model: RewardModel, prompts: list[str], images: list[np.ndarray]
) -> None:
    """To the last bit for images of one size; padding alone changes the third digit in bfloat16."""
    assert len({len(model.backbone.chat.prompt(prompt)) for prompt in prompts}) > 3
    same = [images[0], *(255 - images[0], images[5])] * 3
    for dtype in (torch.float32, torch.bfloat16):
        one = RewardModel(model.backbone).to("cpu", dtype)
        together = one.score(prompts, same[: len(prompts)])
        for index, prompt in enumerate(prompts):
            alone = one.score(prompt, same[index])
            assert torch.equal(together.probs[index], alone.probs[0])
            assert torch.equal(together.mass[index], alone.mass[0])
    model.to("cpu", torch.float32)


def test_fewer_large_images_are_in_a_pass(
    model: RewardModel, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = model.score(["a red circle"] * 5, images[:1] * 5)
    sizes: list[int] = []
    hook = model.backbone.network.register_forward_pre_hook(
        lambda _, given: sizes.append(len(given[0]))
    )
    height, width = model.backbone.pixels.size(*images[0].shape[:2])
    monkeypatch.setattr(scorer, "PASS_PIXELS", 2 * height * width)
    in_parts = model.score(["a red circle"] * 5, images[:1] * 5)
    monkeypatch.setattr(scorer, "PASS_PIXELS", 1)
    model.score(["a red circle"] * 2, images[:1] * 2)
    hook.remove()
    assert sizes == [2, 2, 1, 1, 1]
    assert torch.equal(in_parts.probs, together.probs)


def test_the_limit_of_a_pass() -> None:
    sides = {32: 64, 512: 32, 1024: 8, 8192: 1}
    assert {side: scorer.images_of_pass(side * side, 64) for side in sides} == sides
    assert scorer.images_of_pass(32 * 32, 8) == 8


def test_a_stream_takes_a_window_at_a_time(
    model: RewardModel, prompts: list[str], images: list[np.ndarray]
) -> None:
    taken = []

    def one_by_one() -> Iterator[np.ndarray]:
        for index, image in enumerate(images):
            taken.append(index)
            yield image

    stream = model.score_stream(iter(prompts), one_by_one(), window=3)
    assert taken == []
    parts = [next(stream)]
    assert taken == [0, 1, 2]
    parts += stream
    assert [len(part) for part in parts] == [3, 3, 2]
    expected = model.score(prompts, images)
    torch.testing.assert_close(join_scores(parts).probs, expected.probs, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="there are 8 images, but more prompts"):
        list(model.score_stream([*prompts, "a"], iter(images)))


def test_a_row_without_a_score_has_a_reason_and_no_number(
    model: RewardModel, images: list[np.ndarray], tmp_path: Path
) -> None:
    rows: list[Any] = [images[0], b"not an image", tmp_path / "none.png", images[0]]
    parts = model.score_stream(["red", "red", "red", "red " * 2000], rows, None, 2, True)
    scores = join_scores(list(parts))
    assert list(scores.errors) == [1, 2, 3]
    assert "row 1: image is not a readable image" in scores.errors[1]
    assert "not found" in scores.errors[2] and "row 3: the prompt" in scores.errors[3]
    assert torch.isnan(scores.mean[1:]).all() and torch.isfinite(scores.mean[0]).all()
    assert scores.rows()[1:] == [{}, {}, {}]
    assert torch.equal(scores.probs[:1], model.score("red", images[0]).probs)
    table = scores.to_pandas()
    assert table["overall"].isna().tolist() == [False, True, True, True]
    assert table["error"].isna().tolist() == [True, False, False, False]
    with pytest.raises(UserError, match="row 1: image is not a readable image"):
        model.score("red", rows)


def test_summaries_of_scores_by_hand() -> None:
    scores = Scores(
        ["a", "b"],
        torch.tensor([[[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]]]),
        torch.ones(1, 2),
        torch.tensor([1.0, 2.0, 3.0]),
        torch.tensor([3.0, 1.0]),
    )
    assert scores.std.tolist() == [[1.0, 0.0]]
    assert scores.lower_bound(2.0).tolist() == [[0.0, 2.0]]
    assert scores.overall.tolist() == [2.0]
    assert scores.aggregate(scores.lower_bound(2.0)).tolist() == [0.5]
    row = scores.to_pandas().iloc[0]
    assert row["a_mean"] == 2.0 and row["a_std"] == 1.0 and row["b_probs"] == [0.0, 1.0, 0.0]
    assert row["overall"] == 2.0 and row["error"] is None


def test_overall_has_the_weights_of_the_rubric(
    backbone: Backbone, rubric: Rubric, images: list[np.ndarray], model: RewardModel
) -> None:
    content = rubric.model_dump(mode="json")
    assert "weight" not in content["dimensions"][0]  # so that the hash of a rubric is unchanged
    content["dimensions"][2]["weight"] = 2.0
    weighted = Rubric(**content)
    assert weighted.sha256 != rubric.sha256
    scores = model.score("red", images[0])
    assert scores.overall.item() == pytest.approx(scores.mean.mean().item())
    model.backbone.rubric = weighted
    mean = model.score("red", images[0]).mean[0]
    assert model.score("red", images[0]).overall.item() == pytest.approx(
        (mean[0] + mean[1] + 2 * mean[2]).item() / 4
    )
    assert model.score("red", images[0], ["charm"]).overall.item() == mean[2].item()
    content["dimensions"][0]["weight"] = content["dimensions"][1]["weight"] = 0.0
    model.backbone.rubric = Rubric(**content)
    pair = model.score("red", images[0], ["alignment", "realism"])
    assert pair.overall.item() == pytest.approx(pair.mean.mean().item())  # not 0 / 0
    model.backbone.rubric = rubric
    with pytest.raises(ValueError, match="must not all be 0"):
        Rubric(**{**content, "dimensions": [{**content["dimensions"][0], "weight": 0}]})


GOOD = torch.full((2, 3, 40, 48), 0.5)
WRONG: dict[str, tuple[Any, Any, str]] = {
    "uint8": (["a", "b"], GOOD.to(torch.uint8), "uint8 tensor [2, 3, 40, 48], which have no grad"),
    "0..255": (["a", "b"], GOOD * 255, "127.5 to 127.5, but 0 to 1 are expected"),
    "-1..1": (["a", "b"], GOOD - 1, "-0.5 to -0.5, but 0 to 1 are expected"),
    "NaN": (["a", "b"], GOOD * torch.nan, "a value is nan"),
    "one image": (["a"], GOOD[0], "float32 tensor [3, 40, 48]: pass floats [1, 3, H, W] in"),
    "channels last": (["a", "b"], GOOD.permute(0, 2, 3, 1), "pass floats [2, 3, H, W]"),
    "an array": (["a", "b"], GOOD.numpy(), "float32 array [2, 3, 40, 48]: pass floats"),
    "prompts": (["a"], GOOD, "1 prompts for 2 images"),
    "a prompt": ("ab", GOOD, "must be a list of texts"),
    "no text": (["a", 5], GOOD, "row 1: the prompt is of type int"),
    "too narrow": (["a", "b"], torch.ones(2, 3, 1, 400), "too narrow"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_pixels_are_refused_at_once(model: RewardModel, case: str) -> None:
    prompts, pixels, reason = WRONG[case]
    with pytest.raises(UserError, match=re.escape(reason)):
        model.reward(prompts, pixels)


def test_a_reward_of_another_range_and_of_parts_has_the_same_gradient(model: RewardModel) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(5, 3, 40, 48, generator=generator)
    prompts = ["red", "a red circle", "two blue stars", "a", "blue"]

    def gradient(values: torch.Tensor, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        values = values.clone().requires_grad_(True)
        rewards = model.reward(prompts, values, **options)
        (rewards * torch.arange(15.0).reshape(5, 3)).sum().backward()
        assert values.grad is not None
        return rewards.detach(), values.grad

    rewards, expected = gradient(pixels)
    for size in (1, 2, 5, 9):
        found = gradient(pixels, micro_batch=size)
        torch.testing.assert_close(found[0], rewards, atol=1e-5, rtol=0)
        torch.testing.assert_close(found[1], expected, atol=1e-6, rtol=1e-3)
    found = gradient(pixels * 2 - 1, value_range=(-1, 1))
    torch.testing.assert_close(found[0], rewards, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1] * 2, expected, atol=1e-6, rtol=1e-3)


def test_rewards_of_no_image(model: RewardModel) -> None:
    pixels = torch.zeros(0, 3, 40, 48, requires_grad=True)
    for micro_batch in (None, 1):
        rewards = model.reward([], pixels, micro_batch=micro_batch)
        assert rewards.shape == (0, 3) and rewards.dtype == torch.float32
        rewards.sum().backward()  # of a process that has no part of a batch
    assert pixels.grad is not None and pixels.grad.shape == pixels.shape


def test_micro_batches_keep_no_activations(model: RewardModel) -> None:
    pixels = torch.full((4, 3, 40, 48), 0.5, requires_grad=True)

    def saved(micro_batch: int | None) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            model.reward(["red"] * 4, pixels, micro_batch=micro_batch)
        return sum(sizes)

    assert saved(1) < saved(None) / 10


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, zreward_core; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
