"""Several processes, with full or sharded models, send one whole adapter to an engine."""

import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.runtime.part_of_a_batch import backbone
from tests.sampling_server import sampling_server
from zreward_core.runtime.launch_accelerate import run_processes
from zreward_core.runtime.launch_settings import Accelerate, Fsdp

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("fsdp", [None, Fsdp()], ids=["whole", "sharded"])
def test_two_processes_send_one_whole_adapter(tmp_path: Path, fsdp: Fsdp | None) -> None:
    with sampling_server(backbone()) as server:
        engines = {"joined": {"kind": "vllm", "url": server.url, "concurrency": 2}}
        content = {"engines": engines, "rollouts": {"train_gdso": "joined"}}
        (tmp_path / "launch.yaml").write_text(yaml.safe_dump(content))
        settings = Accelerate(kind="accelerate", processes=2, cpu=True, fsdp=fsdp)
        command = [sys.executable, "-m", "tests.runtime.engine_in_processes", str(tmp_path)]
        code = run_processes(settings, command, {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert code == 0
    results = torch.load(tmp_path / "results.pt", weights_only=True)
    assert results["number"] == 2 and results["sharded"] == (fsdp is not None)
    assert len(server.loaded) == 1 and list(server.models) == [server.name]
    assert {request["model"] for request in server.requests} == set(server.loaded)
    assert len(server.requests) == 8 and len(results["tokens"]) == 16
    assert results["gap"] < 1e-3  # the adapter there is the one that is trained here
