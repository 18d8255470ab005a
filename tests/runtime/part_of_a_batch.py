"""Run by each process of test_two_processes: GDSO and OPD steps, RISD with resumption, and the
gradients of low-rank adapters.

Started as `python -m tests.runtime.part_of_a_batch FOLDER`; the main process writes results.pt.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor

from tests.models.conftest import PROMPT, SIZES
from zreward_core.losses.risd import risd_loss
from zreward_core.models import shared_prefix
from zreward_core.models.backbone import Backbone, LoraSettings
from zreward_core.models.rollouts import Rollouts
from zreward_core.models.tiny import build_backbone
from zreward_core.models.traces import trace_log_probs
from zreward_core.rubric import Dimension, Rubric
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.distributed import add_gradients, add_up, precision, processes
from zreward_core.runtime.sharding import full_tensors, place
from zreward_core.runtime.worker import is_main
from zreward_core.stages import train_gdso, train_opd, train_risd
from zreward_core.training.one_token import one_token_loss
from zreward_core.training.rollouts import roll_out
from zreward_core.training.samplers import Labelled, PairBatch
from zreward_core.training.supervised import supervised_steps
from zreward_core.training.updates import own_micro_batches, update

GDSO = train_gdso.Config(
    seed=1, pairs_per_step=4, group_size=2, micro_batch_pairs=1, beta=0.1, max_grad_norm=1e6
)
OPD = train_opd.Config(seed=1, images_per_step=8, group_size=2, micro_batch_images=2)
RISD = train_risd.Config(
    seed=1, steps=5, batch_size=4, micro_batch_size=2, checkpoint_every=2, learning_rate=1e-3
)


def backbone(seed: int = 5) -> Backbone:
    names = ["alignment", "realism"]
    dimensions = [Dimension(name=n, title=n, question=n, levels={}) for n in names]
    rubric = Rubric(name="r", levels=[1, 2, 3], labels=["1", "2", "3"], dimensions=dimensions)
    return build_backbone(SIZES, ["a red circle at the top left"], rubric, PROMPT, seed)


def images(model: Backbone, number: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(number)]
    return [model.pixels.prepare(array) for array in arrays]


def batch(model: Backbone) -> PairBatch:
    scores = torch.tensor([[3.0, 1.0], [2.0, 1.5], [3.0, 2.0], [2.5, 1.0]])
    target = np.array([model.rubric.histogram([score]) for score in scores.flatten().tolist()])
    return PairBatch(
        prompts=["a red circle", "a red circle", *["at the top left"] * 6],
        images=images(model, 8),
        dimensions=[0, 0, 1, 1, 0, 0, 1, 1],
        scores_P2=scores,
        target_P2S=torch.from_numpy(target).float().unflatten(0, (4, 2)),
        ties_P=torch.zeros(4, dtype=torch.bool),
    )


def sampled(model: Backbone) -> Rollouts:
    pairs = batch(model)
    return roll_out(model, *pairs.inputs, GDSO.group_size, 1.0, np.random.default_rng(3))


def gdso(rollouts: Rollouts) -> dict:
    """Metrics and weights after an update on given rollouts, and rollouts of the old policy."""
    model = backbone()
    model.train_mode(lora=None)
    place(model.network)
    own = sampled(model)
    optimizer = torch.optim.SGD(model.trainable(), lr=1e-2)
    reference = [value * 0.9 for value in model.snapshot()]
    rewarded, metrics = train_gdso.reward(model, GDSO, batch(model), rollouts)
    parts = (
        train_gdso.objective(model, GDSO, rewarded, part, reference)
        for part in own_micro_batches(GDSO.pairs_per_step, GDSO.micro_batch_pairs)
    )
    sums, norm = update("step", model, [optimizer], parts, GDSO.max_grad_norm)
    metrics |= add_up(sums) | {"grad_norm": norm}
    return {"metrics": metrics, "weights": weights(model), "sampled": own.tokens}


def opd(rollouts: Rollouts) -> dict:
    """Metrics and weights after an update on given rollouts, scored by a teacher."""
    model, teacher = backbone(), backbone(seed=7)
    model.train_mode(lora=None)
    for parameter in teacher.network.parameters():
        parameter.requires_grad_(False)
    place(model.network)
    place(teacher.network)
    pairs = batch(model)
    drawn = train_opd.Batch(*pairs.inputs, rollouts)
    optimizer = torch.optim.SGD(model.trainable(), lr=1.0)
    parts = (
        train_opd.loss_of(model, teacher, OPD, drawn, part)
        for part in own_micro_batches(OPD.images_per_step, OPD.micro_batch_images)
    )
    sums, norm = update("step", model, [optimizer], parts, 1e9)
    return {"metrics": add_up(sums) | {"grad_norm": norm}, "weights": weights(model)}


def risd(name: str) -> dict:
    """History and weights of a training run, and of a run resumed from its last checkpoint."""
    found = {}
    for part in ("whole", "resumed"):
        model = backbone()
        probs = torch.softmax(torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0)), -1)
        mask = torch.tensor([[True, True], [True, False]] * 4)
        prompts = ["a red circle", "at the top left"] * 4
        data = Labelled(prompts, images(model, 8), probs, mask)
        checkpoint = Checkpoint(name, RISD, [])
        history: list[dict[str, float]] = []
        model.train_mode(lora=None)
        place(model.network)
        for step in supervised_steps(model, name, 8, checkpoint, history, **RISD.loop):
            step.update(
                one_token_loss(model, data, risd_loss, RISD.mass_weight, batch, step.batch)
                for batch in step.parts()
            )
        found[part] = {"history": history, "weights": weights(model)}
    return found


def adapters(rollouts: Rollouts, mixed: str) -> dict:
    """What is read of given rollouts, metrics and gradients, all by the means of a large model:
    low-rank adapters, activations recomputed, the prefixes of traces shared, mixed precision.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_prefix, "MIN_TOKENS", 1)
        patch.setenv("ACCELERATE_MIXED_PRECISION", mixed)
        model = backbone()
        if mixed == "bf16":
            model.network.bfloat16()
        model.train_mode(LoraSettings(rank=2, alpha=2), gradient_checkpointing=True)
        random = torch.Generator().manual_seed(0)
        for parameter in model.trainable():
            parameter.data.normal_(std=0.1, generator=random)
        place(model.network)
        own = sampled(model)
        pairs, config = batch(model), GDSO.model_copy(update={"micro_batch_pairs": 2})
        with torch.no_grad(), precision():
            read = trace_log_probs(model, *pairs.inputs, rollouts.tokens)
        reference = [value * 0.9 for value in model.snapshot()]
        rewarded, metrics = train_gdso.reward(model, config, pairs, rollouts)
        sums: dict[str, float] = {}
        for part in own_micro_batches(config.pairs_per_step, config.micro_batch_pairs):
            loss, values = train_gdso.objective(model, config, rewarded, part, reference)
            loss.backward()
            sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
        add_gradients(model.trainable())
        return {
            "metrics": metrics | add_up(sums),
            "read": [read.log_probs_NT.cpu(), read.scores_NS.cpu(), read.mass_N.cpu()],
            "gradients": [full_tensors(p.grad).cpu() for p in model.trainable()],
            "sampled": own.tokens,
        }


def weights(model: Backbone) -> list[torch.Tensor]:
    return [full_tensors(value).cpu() for value in model.snapshot()]


def mesh() -> list[int]:
    """Replicas and shards of a sharded model, or shards alone."""
    model = backbone()
    place(model.network)
    weight = next(model.network.parameters())
    return list(weight.device_mesh.shape) if isinstance(weight, DTensor) else []


def main(folder: Path) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    fixed = Rollouts(**torch.load("rollouts.pt", weights_only=True))
    results = {"gdso": gdso(fixed), "opd": opd(fixed), "risd": risd("risd")}
    results |= {mixed: adapters(fixed, mixed) for mixed in ("no", "bf16")}
    results["number"] = processes().num_processes
    results["mesh"] = mesh()
    if is_main():
        torch.save(results, "results.pt")
    processes().destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
