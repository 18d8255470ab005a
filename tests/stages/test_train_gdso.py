"""GDSO's step: log-probabilities, gradient accumulation, the reference policy, resumption."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from tests.models.conftest import PROMPT, SIZES
from tests.stages.training_root import ON_POLICY, run_whole_and_killed
from zreward_core.models.backbone import Backbone
from zreward_core.models.tiny import build_backbone
from zreward_core.models.traces import trace_log_probs
from zreward_core.rubric import Dimension, Rubric
from zreward_core.runtime.progress import read_history
from zreward_core.stages import train_gdso
from zreward_core.stages.train_gdso import Config, objective, reward
from zreward_core.training.policy import policy_loss
from zreward_core.training.rollouts import roll_out
from zreward_core.training.samplers import PairBatch

CONFIG = Config(seed=1, steps=1, pairs_per_step=2, group_size=3, micro_batch_pairs=2, beta=0.1)


def tiny() -> Backbone:
    names = ["alignment", "realism"]
    dimensions = [Dimension(name=n, title=n, question=n, levels={}) for n in names]
    rubric = Rubric(name="r", levels=[1, 2, 3], labels=["1", "2", "3"], dimensions=dimensions)
    return build_backbone(SIZES, ["a red circle at the top left"], rubric, PROMPT, seed=5)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    built = tiny()
    built.train_mode(lora=None)
    return built


@pytest.fixture(scope="module")
def batch(backbone: Backbone) -> PairBatch:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(4)]
    scores = torch.tensor([[3.0, 1.0], [2.0, 1.5]])
    target = torch.stack(
        [
            torch.tensor(backbone.rubric.histogram([score]), dtype=torch.float32)
            for score in scores.flatten().tolist()
        ]
    )
    return PairBatch(
        prompts=["a red circle"] * 2 + ["at the top left"] * 2,
        images=[backbone.pixels.prepare(image) for image in images],
        dimensions=[0, 0, 1, 1],
        scores_P2=scores,
        target_P2S=target.unflatten(0, (2, 2)),
        ties_P=torch.zeros(2, dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def rollouts(backbone: Backbone, batch: PairBatch):
    return roll_out(backbone, *batch.inputs, 3, 1.0, np.random.default_rng(3))


def read(backbone: Backbone, batch: PairBatch, rollouts, temperature: float = 1.0):
    return trace_log_probs(backbone, *batch.inputs, rollouts.tokens, temperature)


def test_scores_of_the_training_forward_are_those_of_the_rollout(
    backbone: Backbone, batch: PairBatch, rollouts
) -> None:
    with torch.no_grad():
        log_probs, mask, scores, _ = read(backbone, batch, rollouts)
    assert torch.allclose(scores, rollouts.log_probs, atol=1e-4)
    assert mask.sum().item() == sum(len(trace) for trace in rollouts.tokens)
    assert (log_probs[mask] < 0).all() and torch.isfinite(log_probs[mask]).all()


def test_gradient_checkpointing_changes_neither_traces_nor_gradients(batch: PairBatch) -> None:
    found = []
    for checkpointing in (False, True):
        model = tiny()
        model.train_mode(lora=None, gradient_checkpointing=checkpointing)
        sampled = roll_out(model, *batch.inputs, 3, 1.0, np.random.default_rng(3))
        assert model.network.training
        found.append((sampled.tokens, gradients(model, CONFIG, batch, sampled, [range(2)])))
    assert found[0][0] == found[1][0]
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_outputs_do_not_depend_on_how_many_inputs_are_sampled_together(
    backbone: Backbone, batch: PairBatch, rollouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, prefill = [], backbone.network.prefill
    monkeypatch.setattr(
        backbone.network,
        "prefill",
        lambda ids, *rest: images.append(len(ids)) or prefill(ids, *rest),
    )
    parts = roll_out(backbone, *batch.inputs, 3, 1.0, np.random.default_rng(3), 3)
    assert images == [3, 1]
    assert parts.tokens == rollouts.tokens and torch.equal(parts.answers, rollouts.answers)
    assert torch.allclose(parts.log_probs, rollouts.log_probs, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_are_those_of_sampling_one_token_at_a_time(
    backbone: Backbone, batch: PairBatch, rollouts, temperature: float
) -> None:
    trace = rollouts.tokens[0]
    with torch.no_grad():
        log_probs, *_ = read(backbone, batch, rollouts, temperature=temperature)
        row = backbone.prefix(batch.prompts[0], batch.images[0]) + backbone.chat.questions[0]
        for t, token in enumerate(trace):
            logits = backbone.logits([row], batch.images[:1], [0], 1)[0, 0]
            logits[backbone.chat.forbidden] = -torch.inf
            expected = torch.log_softmax(logits / temperature, -1)[token]
            assert log_probs[0, t].item() == pytest.approx(expected.item(), abs=1e-4)
            row = [*row, token]


def test_policy_loss_is_at_the_sampling_temperature(
    backbone: Backbone, batch: PairBatch, rollouts
) -> None:
    rewarded, _ = reward(backbone, CONFIG, batch, rollouts)
    with torch.no_grad():
        arguments = (rewarded, range(2), backbone.snapshot(), 0.1, 0.6, False)
        _, found, drift = policy_loss(backbone, *arguments)
        expected, mask, *_ = read(backbone, batch, rollouts, temperature=0.6)
    assert torch.equal(found.log_probs_NT[mask], expected[mask])
    assert drift == 0.0


def test_rewards_are_those_of_equations_7_10_and_13(
    backbone: Backbone, batch: PairBatch, rollouts
) -> None:
    config = Config(seed=1, group_size=3, lambda_pointwise=0.2, lambda_pairwise=0.7)
    rewarded, metrics = reward(backbone, config, batch, rollouts)
    means = (rollouts.log_probs.exp() @ backbone.levels).reshape(2, 2, 3).tolist()
    scores, span = batch.scores_P2.tolist(), 2.0
    pairwise = []
    for p, j, i in itertools.product(range(2), range(2), range(3)):
        pointwise = 1 - abs(means[p][j][i] - scores[p][j]) / span
        gap = scores[p][j] - scores[p][1 - j]
        errors = [abs(means[p][j][i] - other - gap) for other in means[p][1 - j]]
        pairwise.append(1 - sum(errors) / (3 * span))
        expected = 0.2 * pointwise + 0.7 * pairwise[-1]
        assert rewarded.rewards_P2G[p, j, i].item() == pytest.approx(expected, abs=1e-5)
    assert metrics["reward/pairwise"] == pytest.approx(np.mean(pairwise), abs=1e-5)


def test_the_drift_is_measured_from_the_reference_of_the_iteration(training_root) -> None:
    train_gdso.run(Config(seed=1, **ON_POLICY, beta=0.1, iterations=2, learning_rate=1e-2))
    drifts = [row["policy/drift"] for row in read_history(train_gdso.OUTPUT / "history.jsonl")]
    assert [drift == 0.0 for drift in drifts] == [True, False, True, False]


def gradients(backbone: Backbone, config: Config, batch: PairBatch, rollouts, parts) -> list:
    rewarded, _ = reward(backbone, config, batch, rollouts)
    reference = [value * 0.9 for value in backbone.snapshot()]
    for part in parts:
        loss, _ = objective(backbone, config, rewarded, part, reference)
        loss.backward()
    found = [p.grad.clone() for p in backbone.trainable() if p.grad is not None]
    backbone.network.zero_grad()
    return found


def test_gradients_of_micro_batches_add_up_to_the_whole(
    backbone: Backbone, batch: PairBatch, rollouts
) -> None:
    whole = gradients(backbone, CONFIG, batch, rollouts, [range(2)])
    parts = gradients(backbone, CONFIG, batch, rollouts, [range(1), range(1, 2)])
    assert len(whole) == len(parts) > 10
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_reference_weights_are_used_and_restored(
    backbone: Backbone, batch: PairBatch, rollouts
) -> None:
    before = backbone.snapshot()
    with torch.no_grad():
        own, mask, *_ = read(backbone, batch, rollouts)
        with backbone.using([value * 0.5 for value in before]):
            other, *_ = read(backbone, batch, rollouts)
        again, *_ = read(backbone, batch, rollouts)
    assert not torch.allclose(own[mask], other[mask], atol=1e-3)
    assert torch.equal(own, again)
    assert all(torch.equal(a, b) for a, b in zip(before, backbone.snapshot(), strict=True))


def test_bradley_terry_replaces_the_gap(backbone: Backbone, batch: PairBatch, rollouts) -> None:
    changed = CONFIG.model_copy(update={"pairwise": "bradley_terry"})
    rewarded, _ = reward(backbone, CONFIG, batch, rollouts)
    reference = backbone.snapshot()
    gap = objective(backbone, CONFIG, rewarded, range(2), reference)[1]
    order = objective(backbone, changed, rewarded, range(2), reference)[1]
    means = (rollouts.log_probs.exp() @ backbone.levels).reshape(2, 2, 3)
    leads = means[:, 0, :, None] - means[:, 1, None, :]
    expected = torch.nn.functional.softplus(-leads).mean().item()
    assert order["loss/pairwise"] == pytest.approx(expected, abs=1e-4)
    assert order["loss/pointwise"] == gap["loss/pointwise"]


def test_thorough_traces_are_counted_in_the_dimensions_that_have_a_limit(
    backbone: Backbone, batch: PairBatch, rollouts
) -> None:
    lengths = [len(tokens) for tokens in rollouts.tokens]
    limit = sorted(lengths[6:])[3]
    config = CONFIG.model_copy(update={"thorough": {"realism": limit}})
    _, metrics = reward(backbone, config, batch, rollouts)
    assert metrics["trace/thorough"] == np.mean([length >= limit for length in lengths[6:]])
    unused = CONFIG.model_copy(update={"thorough": {"aesthetics": 1}})
    assert "trace/thorough" not in reward(backbone, unused, batch, rollouts)[1]
    assert "trace/thorough" not in reward(backbone, CONFIG, batch, rollouts)[1]


def by_votes(batch: PairBatch, tie: bool) -> PairBatch:
    """The batch with its second pair known only from votes."""
    scores, target = batch.scores_P2.clone(), batch.target_P2S.clone()
    scores[1], target[1] = torch.nan, 0.0
    ties = torch.tensor([False, tie])
    return dataclasses.replace(batch, scores_P2=scores, target_P2S=target, ties_P=ties)


@pytest.mark.parametrize("tie", [False, True])
def test_a_pair_by_votes_has_a_pairwise_reward_alone(
    backbone: Backbone, batch: PairBatch, rollouts, tie: bool
) -> None:
    config = CONFIG.model_copy(update={"lambda_pointwise": 0.2, "lambda_pairwise": 0.7})
    scored, _ = reward(backbone, config, batch, rollouts)
    mixed, metrics = reward(backbone, config, by_votes(batch, tie), rollouts)
    assert torch.equal(mixed.rewards_P2G[0], scored.rewards_P2G[0])
    means = (rollouts.log_probs.exp() @ backbone.levels).reshape(2, 2, 3)
    leads = means[1, 0][:, None] - means[1, 1]
    errors = leads.abs() if tie else (0.5 - leads).clamp(min=0)  # half a level of 1, 2, 3
    expected = 1 - torch.stack([errors.mean(1), errors.mean(0)]) / 2.0
    torch.testing.assert_close(mixed.rewards_P2G[1], 0.7 * expected, atol=1e-5, rtol=0)
    pointwise = 1 - (means[0] - batch.scores_P2[0][:, None]).abs() / 2.0
    assert metrics["reward/pointwise"] == pytest.approx(pointwise.mean().item(), abs=1e-5)


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("votes", ["margin", "bradley_terry"])
def test_losses_of_a_batch_with_votes(
    backbone: Backbone, batch: PairBatch, rollouts, votes: str, tie: bool
) -> None:
    config = CONFIG.model_copy(update={"votes": votes})
    mixed, reference = by_votes(batch, tie), backbone.snapshot()
    rewarded, _ = reward(backbone, config, mixed, rollouts)
    found = objective(backbone, config, rewarded, range(2), reference)[1]
    probs = rollouts.log_probs.exp().reshape(2, 2, 3, 3)
    means = probs @ backbone.levels
    pointwise = -(batch.target_P2S[0][:, None] * probs[0].log()).sum(-1).mean()
    assert found["loss/pointwise"] == pytest.approx(pointwise.item(), abs=1e-4)
    leads = means[:, 0, :, None] - means[:, 1, None, :]
    scored = (leads[0] - (batch.scores_P2[0, 0] - batch.scores_P2[0, 1])).abs().mean() / 2.0
    voted = leads[1].abs().mean() / 2.0 if tie else (0.5 - leads[1]).clamp(min=0).mean() / 2.0
    if votes == "bradley_terry" and not tie:
        voted = torch.nn.functional.softplus(-leads[1]).mean()
    assert found["loss/pairwise"] == pytest.approx((scored + voted).item() / 2, abs=1e-4)
    whole = gradients(backbone, config, mixed, rollouts, [range(2)])
    parts = gradients(backbone, config, mixed, rollouts, [range(1), range(1, 2)])
    for one, other in zip(whole, parts, strict=True):
        assert torch.isfinite(one).all() and torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "weights",
    [
        {"lambda_pointwise": 0.0},
        {"lambda_pairwise": 0.0},
        {"alpha_pointwise": 0.0},
        {"alpha_pairwise": 0.0},
        {"policy_weight": 0.0},
    ],
)
def test_each_term_of_the_objective_changes_the_gradients(
    backbone: Backbone, batch: PairBatch, rollouts, weights: dict
) -> None:
    everything = gradients(backbone, CONFIG, batch, rollouts, [range(2)])
    without = gradients(backbone, CONFIG.model_copy(update=weights), batch, rollouts, [range(2)])
    assert not all(torch.allclose(a, b) for a, b in zip(everything, without, strict=True))


def test_a_killed_run_resumes_to_the_same_teacher(training_root, monkeypatch) -> None:
    lora = {"rank": 2, "alpha": 2}
    config = Config(**{"seed": 1, **ON_POLICY, "beta": 0.1, "lora": lora, "iterations": 2})
    run_whole_and_killed(train_gdso, config, monkeypatch)
