"""The GPU benchmark runs on a CPU with tiny sizes, and what fails ends nothing else."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from zreward_core.models import score_decoder, shared_prefix

NAMES = {
    "score": {"score_1", "bare_1", "share_of_bare_1", "score_2", "bare_2", "share_of_bare_2"},
    "reward": {"plain", "recomputed"},
    "risd": {"step"},
    "gdso": {"sampling", "tokens_per_second", "mean_trace", "update", "update_plain"},
    "tuning": {"step"},
    "sampling_27b": {"seconds_to_make", "sampling", "tokens_per_second"},
}
"""Results of each step."""


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that the step gdso changes; restored afterwards."""
    for module, setting in ((score_decoder, "CHUNK_LOGITS"), (shared_prefix, "MIN_TOKENS")):
        monkeypatch.setattr(module, setting, getattr(module, setting))


@pytest.mark.parametrize("name", [name for name in gpu.STEPS if name != "score_without_fla"])
def test_every_step_runs(name: str, tmp_path: Path) -> None:
    gpu.run_step(name, True, tmp_path / "step.json")
    result = json.loads((tmp_path / "step.json").read_text())
    assert set(result) == NAMES[name] | {"fla"}
    for one in result.values():
        assert not isinstance(one, dict) or one["seconds"] > 0


@pytest.mark.parametrize(("name", "calls"), [("score", 2), ("reward", 0), ("gdso", 1)])
def test_a_measurement_without_enough_memory_leaves_the_others(
    name: str, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement after ``calls`` others runs out of memory."""
    measured, number = gpu.Bench._measured, iter(range(100))

    def short(self: gpu.Bench, *given: Any) -> gpu.Result:
        if next(number) == calls:
            raise torch.OutOfMemoryError("out of memory\nwith details")
        return measured(self, *given)

    monkeypatch.setattr(gpu.Bench, "_measured", short)
    gpu.run_step(name, True, tmp_path / "step.json")
    result = json.loads((tmp_path / "step.json").read_text())
    failed = {key for key, one in result.items() if one == {"error": "out of memory"}}
    assert failed == {{"score": "score_2", "reward": "plain", "gdso": "update"}[name]}
    assert set(result) == (NAMES[name] | {"fla"}) - {"share_of_bare_2"}


def test_results_are_written_after_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, program = tmp_path / "gpu.json", tmp_path / "program"
    monkeypatch.setattr(sys, "executable", str(program))
    for ends, told in (("exit 3", "exit code 3"), ("exec sleep 60", "not finished after")):
        program.write_text(f'#!/bin/sh\necho \'{{"plain": 1}}\' > "$5"\n{ends}\n')
        program.chmod(0o755)
        results = gpu.run_all(["reward", "risd"], True, output, budget=2.0)
        assert json.loads(output.read_text()) == results
        for step in ("reward", "risd"):
            assert results["steps"][step]["plain"] == 1  # measured before it failed
            assert told in results["steps"][step]["error"]


def test_the_steps_share_the_budget() -> None:
    assert sum(limit for _, limit in gpu.STEPS.values()) == gpu.BUDGET
