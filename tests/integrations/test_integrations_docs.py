"""Every example of docs/integrations.md runs, with `SOURCE` as the folder of a student."""

import importlib
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.commands.serving import client_of, tiny_model
from tests.integrations import stand_ins

TEXT = (Path(__file__).parents[2] / "docs/integrations.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
PROMPT = "a red circle"
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


def blocks(section: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "docs/integrations.md", "exec"), names)
    return names


def pipe(prompt: Any, **settings: Any) -> SimpleNamespace:
    """A pipeline of diffusers, as far as the examples call it."""
    number = 1 if isinstance(prompt, str) else len(prompt)
    return SimpleNamespace(images=[IMAGE] * number)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trainer")
    tiny_model().backbone.save(path / "SOURCE", {})
    return path


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    stand_ins.install(monkeypatch)


@pytest.fixture
def overall() -> Any:
    from zreward_core import RewardModel

    score = RewardModel.from_pretrained("SOURCE").score(PROMPT, IMAGE).overall.item()
    return pytest.approx(score, rel=1e-5)


def test_flow_grpo(overall: Any) -> None:
    (code,) = blocks("flow_grpo, DiffusionNFT", "python")
    functions = run(code, score_functions={})["score_functions"]
    scores, _ = functions["zreward"](torch.device("cpu"))(PIXELS[None], [PROMPT], {})
    assert scores == [overall]


def test_flow_factory() -> None:
    (text,) = blocks("Flow-Factory", "yaml")
    (entry,) = yaml.safe_load(text)["rewards"]
    module, _, name = entry.pop("reward_model").rpartition(".")
    config = SimpleNamespace(**entry, device=torch.device("cpu"), dtype=torch.float32)
    reward = getattr(importlib.import_module(module), name)(config, None)
    assert 1 <= reward(prompt=[PROMPT], image=[IMAGE]).rewards.item() <= 5


def test_verl_omni(overall: Any) -> None:
    (text,) = blocks("verl-omni", "")
    words = [word.removeprefix("+reward.reward_functions.zreward.") for word in shlex.split(text)]
    settings = dict(word.split("=") for word in words)
    assert settings["required"] == "true"
    module = importlib.import_module(settings["path"].removeprefix("pkg://"))
    compute = getattr(module, settings["name"])
    image = torch.from_numpy(PIXELS).permute(2, 0, 1)
    assert compute("prompts", image, PROMPT, {}, source=settings["source"])["score"] == overall


def test_unirl(overall: Any) -> None:
    (code,) = blocks("UniRL", "python")
    registered: dict[str, Any] = {}
    run(code, register=registered.__setitem__)
    service, remote = map(yaml.safe_load, blocks("UniRL", "yaml"))
    (entry,) = service["rewards"]
    scorer = registered[entry["scorer"]](**entry["params"])
    (found,) = scorer.score([stand_ins.ScoreItem([(PROMPT, IMAGE)])])
    assert found["reward"] == overall
    with client_of(tiny_model()) as client:
        offered = client.get("/rewards").text
    assert all(name in offered for name in remote["backend"]["config"]["required_rewards"])


def test_trl(overall: Any) -> None:
    (code,) = blocks("TRL", "python")
    names = run(code, pipe=pipe, model=None, dataset=None, GRPOTrainer=SimpleNamespace)
    assert names["trainer"].reward_funcs is names["rewrite"]
    assert names["rewrite"]([PROMPT], ["a circle, red"]) == [overall]
    assert names["caption"](["?"], [PROMPT], image=[IMAGE]) == [overall]


def test_diffusers(overall: Any) -> None:
    (code,) = blocks("diffusers", "python")
    names = run(code, pipe=pipe)
    assert names["image"] is IMAGE and len(names["scores"]) == 8
    assert names["scores"][0][1] == overall


def test_no_example_is_left_out() -> None:
    assert TEXT.count("```") == 2 * 8
