"""`zreward plan` beside what torch really allocates for the same step, on a CPU."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import masking_utils

from tests.commands.plan_models import LORA, RUBRIC, blueprint
from tests.tiny_models import PROMPT, build_family
from zreward_core.commands.plan import backbone as plan_backbone
from zreward_core.commands.plan import memory as plan_memory
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
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_5", "qwen3_vl"])
def test_an_update_allocates_what_is_planned(
    family: str, stage: str, recomputed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "seed": 1,
        "lora": LORA | {"rank": 8},
        "gradient_checkpointing": recomputed,
    }

    layers = build_family(family, ["word"], RUBRIC, PROMPT).network.model.config.text_config
    small = blueprint(layers.num_hidden_layers, family=family)

    def measure() -> Any:
        if stage == "train_risd":
            config = train_risd.Config(**settings, micro_batch_size=4)
            return plan_memory.risd_update.__wrapped__(small, config, SIZE)
        config = train_gdso.Config(**settings, micro_batch_pairs=1, group_size=4)
        return plan_memory.pairs_update.__wrapped__(stage, small, config, SIZE)

    def really(_: Any, config: Any, parts: Callable[[Any], Any]) -> int:
        backbone = build_family(family, ["word"], RUBRIC, PROMPT)
        backbone.train_mode(config.lora, config.gradient_checkpointing)
        optimizer = torch.optim.AdamW(backbone.trainable(), lr=1e-4)
        return allocated(lambda: update("test", backbone, [optimizer], parts(backbone), 1.0))

    # masks are planned as for rows of unequal lengths; here, rows have one length
    monkeypatch.setattr(masking_utils, "_ignore_causal_mask_sdpa", lambda *_, **__: False)
    planned = measure()
    monkeypatch.setattr(plan_memory, "_trained", really)
    monkeypatch.setattr(qwen3_5, "CHUNK", plan_backbone.GPU_CHUNK)
    within = 0.1 if family == "qwen3_5" else 0.15
    assert planned.activations == pytest.approx(measure(), rel=within)
