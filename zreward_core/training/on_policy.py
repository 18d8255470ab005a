"""The on-policy loop: the two outer loops of algorithm 1 of Z-Reward (arXiv:2606.09076).

The stage samples, computes rewards and updates within each step. A step's randomness is derived
from (seed, step), so a resumed run equals an uninterrupted one.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.progress import publish, say_metrics, track
from zreward_core.runtime.sharding import full_tensors, shard_like
from zreward_core.training.updates import (
    History,
    Reference,
    Step,
    Validator,
    load_training_state,
    place_of,
    training_state,
)


@dataclass(kw_only=True)
class PolicyStep(Step):
    """One batch sampled from the current policy, and the updates on it."""

    rng: np.random.Generator
    next_rng: np.random.Generator
    """That of the next step, to load its images ahead."""
    reference: Reference
    """pi_ref, for the KL divergence of equation 4."""


def on_policy_steps(
    backbone: Any,
    name: str,
    checkpoint: Checkpoint,
    history: History,
    *,
    seed: int,
    steps: int,
    iterations: int,
    learning_rate: float,
    warmup_steps: int,
    max_grad_norm: float,
    checkpoint_every: int,
    validation: Validator | None = None,
    engine: AbstractContextManager[None] | None = None,
) -> Iterator[PolicyStep]:
    """Yield the steps of algorithm 1; log and checkpoint each after the stage has used it.

    The last step yielded examines the trained weights (``Step.after_last``).

    Args:
        backbone: open for training and placed; its trainable weights are changed.
        name: label of the progress bar.
        history: rows are appended; after resumption it starts with the rows of the checkpoint.
        steps: batches in all (N x M).
        iterations: N, of ceil(steps / N) steps; each starts with pi_ref <- pi.
        learning_rate: of AdamW, constant after warm-up.
        warmup_steps: steps of linear warm-up.
        max_grad_norm: gradients are clipped to this norm.
        checkpoint_every: steps between checkpoints.
        validation: called after each step, before it is logged.
        engine: entered before the first step, left after the last: what samples the traces.
    """
    optimizer = torch.optim.AdamW(
        backbone.trainable(), lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.95)
    )
    reference = backbone.snapshot()
    start = 0
    if state := checkpoint.load("state"):
        load_training_state(backbone, [optimizer], state)
        kept = zip(state["reference"], reference, strict=True)
        reference = [shard_like(value, like) for value, like in kept]
        history[:], start = state["history"], state["step"]
    publish(name, history, anew=True)
    steps_per_iteration = -(-steps // iterations)

    def prepared(index: int) -> PolicyStep:
        return PolicyStep(
            index=index,
            place=place_of(name, index, steps),
            backbone=backbone,
            optimizers=[optimizer],
            max_grad_norm=max_grad_norm,
            rng=np.random.default_rng([seed, index]),
            next_rng=np.random.default_rng([seed, index + 1]),
            reference=reference,
            after_last=index == steps,
        )

    with engine or nullcontext():
        for index in track(range(start, steps), name, steps, start):
            if index % steps_per_iteration == 0:
                reference = backbone.snapshot()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * min(1.0, (index + 1) / max(1, warmup_steps))
            step = prepared(index)
            yield step
            if validation is not None:
                validation.after(step)
            history.append(step.row(index))
            publish(name, history[-1:])
            if (index + 1) % checkpoint_every == 0:
                state = {
                    "step": index + 1,
                    **training_state(backbone, [optimizer]),
                    "reference": full_tensors(reference),
                    "history": history,
                }
                checkpoint.save("state", state)
        say_metrics(name, history)
        yield prepared(steps)
        if validation is not None:
            validation.finish()
    backbone.network.eval()
