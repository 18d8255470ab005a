"""The coupling loss scores each image under the other image's traces."""

import numpy as np
import pytest
import torch

from tests.stages.training_root import ON_POLICY, drawn_pairs, run_whole_and_killed, tiny
from zreward_core.models.traces import trace_log_probs
from zreward_core.stages import train_gdso, train_gdso_coupled
from zreward_core.stages.train_gdso_coupled import Config, objective
from zreward_core.training.policy import exchanged_scores
from zreward_core.training.rollouts import roll_out

CONFIG = Config(seed=1, **ON_POLICY, beta=0.1, alpha_coupling=0.5)


def test_the_coupling_loss_is_that_of_exchanged_traces(training_root) -> None:
    backbone = tiny()
    backbone.train_mode(lora=None)
    pairs = drawn_pairs(backbone, 2)
    rollouts = roll_out(backbone, *pairs.inputs, 3, 1.0, np.random.default_rng(3))
    rewarded, _ = train_gdso.reward(backbone, CONFIG, pairs, rollouts)
    with torch.no_grad():
        exchanged = exchanged_scores(backbone, rewarded, range(2))
        second = exchanged_scores(backbone, rewarded, range(1, 2))
        for side in range(4):
            alone = trace_log_probs(
                backbone,
                pairs.prompts[side : side + 1],
                pairs.images[side : side + 1],
                pairs.dimensions[side : side + 1],
                rollouts.tokens[(side ^ 1) * 3 : (side ^ 1) * 3 + 3],
            )
            assert torch.allclose(exchanged.flatten(0, 1)[side], alone.scores_NS, atol=1e-4)
    assert torch.allclose(exchanged[1:], second, atol=1e-4)
    reference = backbone.snapshot()
    shared = CONFIG.model_dump(exclude={"alpha_coupling"})
    gdso = train_gdso.objective(
        backbone, train_gdso.Config(**shared), rewarded, range(2), reference
    )
    coupled = objective(backbone, CONFIG, rewarded, range(2), reference)
    expected = -(pairs.target_P2S.flip(1)[:, :, None] * exchanged).sum(-1).mean().item()
    assert coupled[1]["loss/coupling"] == pytest.approx(expected, abs=1e-4)
    assert (coupled[0] - gdso[0]).item() == pytest.approx(0.5 * expected, abs=1e-4)


def test_a_killed_run_resumes_to_the_same_teacher(training_root, monkeypatch) -> None:
    run_whole_and_killed(train_gdso_coupled, CONFIG, monkeypatch)
