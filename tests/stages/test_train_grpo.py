"""GRPO: rewards from the distribution or the text, the score token in the sum, resumption."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.stages.training_root import (
    NAMES,
    ON_POLICY,
    drawn_pairs,
    run_whole_and_killed,
    tiny,
)
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import Rollouts, closed_sequence, read_scores
from zreward_core.runtime.progress import read_history
from zreward_core.schemas import read_json
from zreward_core.stages import _training as shared
from zreward_core.stages import train_grpo
from zreward_core.stages.train_grpo import OUTPUT, Config, loss_of, reward
from zreward_core.training.policy import policy_loss
from zreward_core.training.rollouts import roll_out
from zreward_core.training.samplers import PairBatch

CONFIG = Config(seed=1, **ON_POLICY, beta=0.1)
TEXT = CONFIG.model_copy(update={"reward_from": "text"})


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    built = tiny()
    built.train_mode(lora=None)
    return built


@pytest.fixture
def batch(backbone: Backbone, training_root) -> PairBatch:
    return drawn_pairs(backbone, 2)


@pytest.fixture
def rollouts(backbone: Backbone, batch: PairBatch) -> Rollouts:
    return roll_out(backbone, *batch.inputs, 3, 1.0, np.random.default_rng(3))


def answered(backbone: Backbone, rollouts: Rollouts, levels: list[int | None]) -> Rollouts:
    """The same traces with given answers: labels of levels, or a token that is not a label."""
    labels = backbone.label_ids.tolist()
    rollouts.answers = torch.tensor(
        [backbone.chat.close_id if level is None else labels[level] for level in levels]
    )
    return rollouts


def gradients(backbone: Backbone, config: Config, rewarded, parts) -> list[torch.Tensor]:
    reference = [value * 0.9 for value in backbone.snapshot()]
    for part in parts:
        loss_of(backbone, config, rewarded, part, reference)[0].backward()
    found = [p.grad.clone() for p in backbone.trainable() if p.grad is not None]
    backbone.network.zero_grad()
    return found


def test_the_reward_is_read_from_the_distribution_or_from_the_text(
    backbone: Backbone, batch: PairBatch, rollouts: Rollouts
) -> None:
    rollouts = answered(backbone, rollouts, [0, 1, 2, None] * 3)
    scores = read_scores(backbone, rollouts, from_text=True)
    expected = torch.tensor([1.0, 2.0, 3.0, torch.nan] * 3)
    assert torch.equal(scores.nan_to_num(-1), expected.nan_to_num(-1))
    means = read_scores(backbone, rollouts, from_text=False)
    assert torch.equal(means, rollouts.log_probs.exp() @ backbone.levels)


def test_an_unreadable_answer_is_counted_and_excluded(
    backbone: Backbone, batch: PairBatch, rollouts: Rollouts
) -> None:
    rollouts = answered(backbone, rollouts, [0, 1, 2, 0, None, 2, 0, 0, 0, None, None, None])
    rewarded, metrics = reward(backbone, TEXT, batch, rollouts)
    assert metrics["score/readable"] == pytest.approx(8 / 12)
    rewards, advantages = rewarded.rewards_P2G, rewarded.advantages_P2G
    expected = 1 - (torch.tensor([1.0, 2.0, 3.0]) - batch.scores_P2[0, 0]).abs() / 2
    assert torch.allclose(rewards[0, 0], expected)
    assert rewards.isnan().flatten().tolist() == [False] * 4 + [True] + [False] * 4 + [True] * 3
    assert advantages[0, 1, 1] == 0 and advantages[0, 1].sum().abs() < 1e-6
    assert (advantages[1] == 0).all()
    whole = gradients(backbone, TEXT, rewarded, [range(2)])
    rollouts.tokens[4] = rollouts.tokens[4][::-1]  # excluded outputs have no influence
    rollouts.tokens[10] = rollouts.tokens[11]
    changed = gradients(backbone, TEXT, rewarded, [range(2)])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, changed, strict=True))


def test_a_batch_without_readable_answers_has_no_gradient(
    backbone: Backbone, batch: PairBatch, rollouts: Rollouts
) -> None:
    rewarded, metrics = reward(backbone, TEXT, batch, answered(backbone, rollouts, [None] * 12))
    assert metrics["score/readable"] == 0 and "reward/mean" not in metrics
    assert not any(g.any() for g in gradients(backbone, TEXT, rewarded, [range(2)]))


def test_the_score_token_is_included_on_request(
    backbone: Backbone, batch: PairBatch, rollouts: Rollouts
) -> None:
    rewarded, _ = reward(backbone, CONFIG, batch, rollouts)
    reference = backbone.snapshot()
    _, without, _ = policy_loss(backbone, rewarded, range(2), reference, 0.1, 1.0, False)
    _, found, _ = policy_loss(backbone, rewarded, range(2), reference, 0.1, 1.0, True)
    assert torch.equal(found.log_probs_NT[:, :-1], without.log_probs_NT)
    assert found.mask_NT[:, -1].all()
    row = backbone.prefix(batch.prompts[1], batch.images[1])
    row += backbone.chat.questions[batch.dimensions[1]]
    row += closed_sequence(backbone, rollouts.tokens[3])
    with torch.no_grad():
        logits = backbone.logits([row], batch.images[1:2], [0], 1)[0, 0]
    logits[backbone.chat.forbidden] = -torch.inf
    expected = torch.log_softmax(logits, -1)[rollouts.answers[3]]
    assert found.log_probs_NT[3, -1].item() == pytest.approx(expected.item(), abs=1e-4)


def test_gradients_of_micro_batches_add_up_to_the_whole(
    backbone: Backbone, batch: PairBatch, rollouts: Rollouts
) -> None:
    rewarded, _ = reward(backbone, TEXT, batch, answered(backbone, rollouts, [0, 1, 2, None] * 3))
    whole = gradients(backbone, TEXT, rewarded, [range(2)])
    parts = gradients(backbone, TEXT, rewarded, [range(1), range(1, 2)])
    assert len(whole) == len(parts) > 10
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("changes", [{}, {"count_score_token": True, "base": "student"}])
def test_a_killed_run_resumes_to_the_same_teacher(training_root, monkeypatch, changes) -> None:
    config = CONFIG.model_copy(update=changes)
    run_whole_and_killed(train_grpo, config, monkeypatch)
    base = load_file(f"data/base_vlm/{config.base}/model.safetensors")
    trained = load_file(OUTPUT / "teacher/model.safetensors")
    assert set(base) == set(trained)
    assert any((base[name] != trained[name]).any() for name in base)
    history = read_history(OUTPUT / "history.jsonl")
    assert [row["step"] for row in history] == [0, 1, 2, 3]
    assert read_json(OUTPUT / "teacher/zreward.json")["dimensions"] == list(NAMES)


def test_no_pair_to_train_on(training_root, monkeypatch) -> None:
    read = shared.read_pairs
    monkeypatch.setattr(shared, "read_pairs", lambda path: read(path).iloc[:0])
    with pytest.raises(UserError, match=str(shared.PAIRS_FILE)):
        train_grpo.run(CONFIG)
