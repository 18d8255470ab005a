"""The on-policy loop: updates of the reference policy."""

import torch

from tests.stages.training_root import tiny, trainable_root, training_root
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.stages.train_grpo import Config
from zreward_core.training.on_policy import on_policy_steps
from zreward_core.training.updates import History

__all__ = ["trainable_root", "training_root"]


def test_the_reference_becomes_the_policy_at_the_start_of_each_iteration(training_root) -> None:
    backbone = tiny()
    backbone.train_mode(lora=None)
    config = Config(seed=1, steps=4, iterations=2, learning_rate=1e-2, warmup_steps=0)
    history: History = []
    checkpoint = Checkpoint("reference", config, [])
    is_policy = []
    for step in on_policy_steps(backbone, "reference", checkpoint, history, **config.loop):
        policy = backbone.snapshot()
        is_policy.append(all(map(torch.equal, step.reference, policy)))
        loss = sum(parameter.square().sum() for parameter in backbone.trainable())
        step.update([(loss, {"loss/total": loss.item()})])
    assert is_policy == [True, False, True, False, False]  # the last step changes nothing
    assert all(map(torch.equal, policy, backbone.snapshot()))
    assert [row["step"] for row in history] == [0, 1, 2, 3]
