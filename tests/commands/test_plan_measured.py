"""`zreward plan` beside what torch really allocates for the same step, on a CPU."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tests.commands.plan_models import LORA, RUBRIC, blueprint
from tests.tiny_models import PROMPT, build_family
from zreward_core.commands import plan_backbone, plan_memory
from zreward_core.models import qwen3_5
from zreward_core.stages import train_gdso, train_risd
from zreward_core.training.updates import update

SIZE = (128, 128)


def allocated(step: Callable[[], Any]) -> int:
    """Most bytes that torch's allocator has given at a time during a step."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    memory = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(size for _, size in memory))


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("stage", ["train_gdso", "train_risd"])
def test_an_update_allocates_what_is_planned(
    stage: str, recomputed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "seed": 1,
        "lora": LORA | {"rank": 8},
        "gradient_checkpointing": recomputed,
    }

    def measure() -> Any:
        if stage == "train_risd":
            config = train_risd.Config(**settings, micro_batch_size=4)
            return plan_memory.risd_update.__wrapped__(blueprint(4), config, SIZE)
        config = train_gdso.Config(**settings, micro_batch_pairs=1, group_size=4)
        return plan_memory.pairs_update.__wrapped__(stage, blueprint(4), config, SIZE)

    def really(_: Any, config: Any, parts: Callable[[Any], Any]) -> int:
        backbone = build_family("qwen3_5", ["word"], RUBRIC, PROMPT)
        backbone.train_mode(config.lora, config.gradient_checkpointing)
        optimizer = torch.optim.AdamW(backbone.trainable(), lr=1e-4)
        return allocated(lambda: update("test", backbone, [optimizer], parts(backbone), 1.0))

    planned = measure()
    monkeypatch.setattr(plan_memory, "_trained", really)
    monkeypatch.setattr(qwen3_5, "CHUNK", plan_backbone.GPU_CHUNK)
    assert planned.activations == pytest.approx(measure(), rel=0.1)
