"""Run by each process of test_engine_sharded: rollouts of a policy that an engine samples.

Started as `python -m tests.runtime.engine_in_processes FOLDER`, which has a launch.yaml that joins
a server of `part_of_a_batch.backbone()`; the main process writes results.pt.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from tests.runtime.part_of_a_batch import GDSO, backbone, batch
from zreward_core.models.backbone import LoraSettings
from zreward_core.runtime.distributed import processes
from zreward_core.runtime.sharding import place
from zreward_core.runtime.worker import is_main
from zreward_core.stages._engine import rollout_engine
from zreward_core.training.rollouts import roll_out

LORA = LoraSettings(rank=2, alpha=16)


def main(folder: Path) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    model = backbone()
    model.train_mode(LORA, seed=5)
    with torch.no_grad():
        for n, parameter in enumerate(model.trainable()):
            generator = torch.Generator().manual_seed(n)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    place(model.network)
    sharded = [isinstance(parameter, DTensor) for parameter in model.trainable()]
    pairs = batch(model)
    with rollout_engine("train_gdso", model, trains=True):
        rng = np.random.default_rng(3)
        found = roll_out(model, *pairs.inputs, GDSO.group_size, 1.0, rng)
    assert found.log_ratios is not None
    results = {
        "tokens": found.tokens,
        "gap": max(abs(ratio) for row in found.log_ratios for ratio in row),
        "sharded": all(sharded),
        "number": processes().num_processes,
    }
    if is_main():
        torch.save(results, "results.pt")
    processes().destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
