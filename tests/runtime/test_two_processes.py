"""Several processes, with full or sharded models, give the results of one process.

Sums are accumulated in another order, so results agree to about 1e-6 relative; the tolerances below
are an order of magnitude larger.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.runtime import part_of_a_batch
from zreward_core.models.rollouts import Rollouts
from zreward_core.runtime.launch_accelerate import run_processes
from zreward_core.runtime.launch_settings import Accelerate, Fsdp

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def rollouts() -> Rollouts:
    return part_of_a_batch.sampled(part_of_a_batch.backbone())


@pytest.fixture(scope="module")
def alone(rollouts: Rollouts, tmp_path_factory: pytest.TempPathFactory) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("alone"))
        return {
            "gdso": part_of_a_batch.gdso(rollouts),
            "opd": part_of_a_batch.opd(rollouts),
            "risd": part_of_a_batch.risd("risd"),
            "no": part_of_a_batch.adapters(rollouts, "no"),
            "bf16": part_of_a_batch.adapters(rollouts, "bf16"),
        }


LAUNCHERS = {"whole": (2, None), "sharded": (2, Fsdp()), "replicas": (4, Fsdp(replicas=2))}
"""Processes and sharding."""


@pytest.fixture(scope="module", params=LAUNCHERS)
def together(
    request: pytest.FixtureRequest, rollouts: Rollouts, tmp_path_factory: pytest.TempPathFactory
) -> dict:
    folder = tmp_path_factory.mktemp(request.param)
    torch.save(asdict(rollouts), folder / "rollouts.pt")
    number, fsdp = LAUNCHERS[request.param]
    settings = Accelerate(kind="accelerate", processes=number, cpu=True, fsdp=fsdp)
    command = [sys.executable, "-m", "tests.runtime.part_of_a_batch", str(folder)]
    code = run_processes(settings, command, {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert code == 0
    results = torch.load(folder / "results.pt", weights_only=True)
    assert results["number"] == number
    assert results["mesh"] == {None: [], 1: [2], 2: [2, 2]}[fsdp and fsdp.replicas]
    return results


@pytest.mark.parametrize("method", ["gdso", "opd"])
def test_losses_are_those_of_one(alone: dict, together: dict, method: str) -> None:
    one, two = alone[method]["metrics"], together[method]["metrics"]
    assert set(one) == set(two)
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert one["loss/total"] != 0 and one["grad_norm"] > 0


@pytest.mark.parametrize("method", ["gdso", "opd"])
def test_weights_are_those_of_one(alone: dict, together: dict, method: str) -> None:
    before = part_of_a_batch.backbone().network.parameters()
    moved = 0.0
    for old, one, two in zip(
        before, alone[method]["weights"], together[method]["weights"], strict=True
    ):
        assert torch.allclose(one, two, atol=1e-5, rtol=1e-5)
        moved = max(moved, float((one - old.detach()).abs().max()))
    assert moved > 1e-3


@pytest.mark.parametrize("mixed", ["no", "bf16"])
def test_gradients_of_adapters_are_those_of_one(alone: dict, together: dict, mixed: str) -> None:
    """In bfloat16 the rounding of activations differs; what is read of them is float32."""
    one, two = alone[mixed], together[mixed]
    exact = mixed == "no"
    for a, b in zip(one["read"], two["read"], strict=True):
        assert b.dtype == torch.float32
        assert torch.allclose(a, b, rtol=0, atol=1e-5 if exact else 0.02)
    for name, value in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(value, abs=1e-5 if exact else 0.005), name
    a, b = (
        torch.cat([gradient.flatten() for gradient in found["gradients"]]) for found in (one, two)
    )
    assert b.dtype == torch.float32
    assert float((a - b).norm()) < (1e-5 if exact else 0.03) * float(a.norm())
    rounded = b.bfloat16().float() == b
    assert rounded.float().mean() < 0.9  # the processes' gradients are added up in float32


def test_processes_sample_the_traces_of_one(alone: dict, together: dict) -> None:
    assert together["gdso"]["sampled"] == alone["gdso"]["sampled"]


def test_risd_losses_are_those_of_one(alone: dict, together: dict) -> None:
    one, two = (found["risd"]["whole"]["history"] for found in (alone, together))
    assert len(one) == len(two) == 1
    for name, value in one[0].items():
        assert two[0][name] == pytest.approx(value, rel=1e-5, abs=1e-7), name
    differences = [
        float((a - b).abs().max())
        for a, b in zip(
            alone["risd"]["whole"]["weights"], together["risd"]["whole"]["weights"], strict=True
        )
    ]
    # AdamW normalizes gradients: where one is near zero, rounding sets the sign of the update.
    assert np.quantile(differences, 0.9) < 1e-4 and max(differences) < 5e-3


def test_processes_resume_to_the_same_weights(together: dict) -> None:
    whole, resumed = (together["risd"][part] for part in ("whole", "resumed"))
    assert resumed["history"] == whole["history"]
    assert all(map(torch.equal, resumed["weights"], whole["weights"]))
