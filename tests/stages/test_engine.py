"""Stages whose traces an engine samples, chosen in launch.yaml."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.sampling_server import sampling_server
from tests.stages.training_root import drawn_pairs, tiny, trainable_root, training_root
from zreward_core.adapters import ADAPTER, save_without
from zreward_core.config import UserError
from zreward_core.models.backbone import LoraSettings
from zreward_core.models.loading import load_backbone
from zreward_core.models.rollouts import Rollouts
from zreward_core.runtime.progress import read_history
from zreward_core.stages import label, train_gdso
from zreward_core.stages._engine import rollout_engine, server_arguments
from zreward_core.training.policy import policy_loss
from zreward_core.training.rollouts import importance_weights, roll_out

__all__ = ["trainable_root", "training_root"]
LORA = LoraSettings(rank=2, alpha=16)
BATCH = {"pairs_per_step": 2, "group_size": 2, "micro_batch_pairs": 2}
GDSO = train_gdso.Config(seed=1, steps=2, lora=LORA, learning_rate=0.03, warmup_steps=0, **BATCH)


@pytest.fixture
def root(training_root: Path):
    yield training_root
    Path("launch.yaml").unlink(missing_ok=True)
    for stage in ("label", "train_gdso"):
        shutil.rmtree(Path("data") / stage / "teacher", ignore_errors=True)


def join(url: str, *stages: str) -> None:
    engines = {"joined": {"kind": "vllm", "url": url, "concurrency": 4}}
    rollouts = dict.fromkeys(stages, "joined")
    Path("launch.yaml").write_text(yaml.safe_dump({"engines": engines, "rollouts": rollouts}))


def test_training_sends_its_adapter_at_each_step(root: Path) -> None:
    base = load_backbone(train_gdso.shared.BASES / "teacher")
    with sampling_server(base) as server:
        join(server.url, "train_gdso")
        train_gdso.run(GDSO)
    history = read_history(train_gdso.OUTPUT / "history.jsonl")
    assert len(server.loaded) == len(set(server.loaded)) == 3  # and after the last update
    assert list(server.models) == [server.name]
    assert all(row["engine/largest_gap"] < 1e-3 for row in history)
    assert {request["sampling_params"]["n"] for request in server.requests} == {2}
    assert len(server.requests) == 3 * 4
    assert not list(Path(".zreward/engine").iterdir())


def test_all_weights_are_not_sent(root: Path) -> None:
    join("http://127.0.0.1:1", "train_gdso")
    with pytest.raises(UserError, match=r"'train_gdso\.lora'"):
        train_gdso.run(GDSO.model_copy(update={"lora": None}))


def test_label_serves_the_base_with_the_trained_adapter(root: Path) -> None:
    model = tiny(0)
    base = tiny(0)
    model.train_mode(LORA, seed=3)
    with torch.no_grad():
        for parameter in model.trainable():
            parameter.add_(0.2)
    model.save(label.TEACHER, {})
    with sampling_server(base) as server:
        join(server.url, "label")
        label.run(label.Config(seed=1, num_traces=2, batch_size=8))
    assert len(server.loaded) == 1 and list(server.models) == [server.name]
    assert {request["model"] for request in server.requests} == set(server.loaded)
    traces = pd.concat([pd.read_parquet(one) for one in sorted(label.OUTPUT.glob("traces/*"))])
    assert len(traces) == 8 * 2 * 2
    assert np.isfinite(np.stack(traces["probs"])).all()


def test_a_server_is_given_the_model_that_is_used(root: Path, tmp_path: Path) -> None:
    model = tiny(0)
    model.train_mode(LORA, seed=3)
    model.save(tmp_path / "teacher", {})
    apart = load_backbone(tmp_path / "teacher", "bfloat16")
    arguments = server_arguments(apart, tmp_path / "engine", trains=False)
    source = Path(arguments[arguments.index("--model") + 1])
    assert source == tmp_path / "engine/base" and (source / "tokenizer.json").is_file()
    own, expected = load_file(source / "model.safetensors"), tiny(0).network.model.state_dict()
    assert set(own) == set(load_file(tmp_path / "teacher/model.safetensors"))
    for name, value in own.items():
        assert torch.equal(value, expected[name].bfloat16()), name
    assert arguments[arguments.index("--max-lora-rank") + 1] == "8"
    merged = load_backbone(tmp_path / "teacher")
    arguments = server_arguments(merged, tmp_path / "engine", trains=False)
    assert arguments[:4] == ["--model", str(tmp_path / "teacher"), "--dtype", "float32"]
    assert "--enable-lora" not in arguments
    assert (tmp_path / "teacher" / ADAPTER).is_dir() and save_without.__doc__


def test_a_local_stage_has_no_engine(root: Path) -> None:
    model = tiny(0)
    join("http://127.0.0.1:1", "label")
    with rollout_engine("predict", model):
        assert model.engine is None


def test_the_policy_gradient_is_weighed(root: Path) -> None:
    model = tiny(0)
    model.train_mode(None)
    pairs = drawn_pairs(model, 2)
    rollouts = roll_out(model, *pairs.inputs, 2, 1.0, np.random.default_rng(0))
    assert importance_weights(rollouts, slice(0, 8), torch.zeros(8, 5)) is None
    batch, _ = train_gdso.reward(model, GDSO, pairs, rollouts)

    def gradient(ratio: float | None) -> torch.Tensor:
        batch.rollouts.log_ratios = (
            None if ratio is None else [[ratio] * len(row) for row in rollouts.tokens]
        )
        loss, *_ = policy_loss(model, batch, range(2), [], 0.0, 1.0, False)
        (found,) = torch.autograd.grad(loss, model.trainable()[:1], allow_unused=True)
        return found

    plain = gradient(None)
    assert plain.abs().max() > 0
    assert torch.allclose(gradient(0.0), plain)
    assert torch.allclose(gradient(float(np.log(0.5))), 0.5 * plain, atol=1e-7)
    assert torch.allclose(gradient(5.0), 2.0 * plain, atol=1e-7)
    weights = importance_weights(batch.rollouts, slice(0, 1), torch.zeros(1, 6))
    length = len(rollouts.tokens[0])
    assert weights.tolist() == [[2.0] * length + [1.0] * (6 - length)]


def test_rollouts_of_parts_are_joined() -> None:
    from zreward_core.models.rollouts import join_rollouts

    one = Rollouts([[1, 2]], *[torch.zeros(1)] * 4, log_ratios=[[0.1, 0.2]])
    assert join_rollouts([one, one]).log_ratios == [[0.1, 0.2]] * 2
