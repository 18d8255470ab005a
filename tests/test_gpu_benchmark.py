"""The GPU benchmark runs on a CPU with tiny sizes, and a step that fails ends no other."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from zreward_core.models import score_decoder, shared_prefix

PARTS = {
    "score": {"batch_1", "batch_2"},
    "reward": {"plain", "recomputed"},
    "gdso": {"sampling", "update", "update_plain"},
}
"""Measurements of the steps that make several."""


@pytest.mark.parametrize("name", [name for name in gpu.STEPS if name != "score_without_fla"])
def test_every_step_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, setting in ((score_decoder, "CHUNK_LOGITS"), (shared_prefix, "MIN_TOKENS")):
        monkeypatch.setattr(module, setting, getattr(module, setting))  # restored afterwards
    result = json.loads(json.dumps(gpu.run_step(name, small=True)))
    measured = [result[part] for part in PARTS.get(name, ())] or [result]
    for one in measured:
        assert one.get("seconds") or one["score"]["seconds"] > 0
    assert PARTS.get(name, set()) <= set(result)


def test_results_are_written_after_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "executable", "/bin/false")
    gpu.run_all(["reward"], True, output)
    assert "error" in json.loads(output.read_text())["steps"]["reward"]
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    results = gpu.run_all(["score", "risd"], True, output, budget=0.5)
    assert json.loads(output.read_text()) == results
    assert "not finished" in results["steps"]["score"]["error"]
    assert results["steps"]["risd"] == {"error": "no time was left"}
    assert sum(limit for _, limit in gpu.STEPS.values()) < gpu.BUDGET + 100
