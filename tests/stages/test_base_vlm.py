"""base_vlm: the two kinds of base, and the rejection of contradictory settings."""

from pathlib import Path

import pytest
import yaml

from zreward_core.config import UserError
from zreward_core.models.backbone import load_backbone
from zreward_core.models.card import read_card
from zreward_core.stages import world
from zreward_core.stages.base_vlm import Config, run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/rubric.yaml").write_text((ROOT / "data/rubric.yaml").read_text())
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


def test_hub_bases_are_pointers(root: Path) -> None:
    run(Config.load("base_vlm", ROOT / "params/paper.yaml"))
    card = read_card(Path("data/base_vlm/teacher"))
    assert (card["hub_id"], card["revision"]) == ("Qwen/Qwen3.5-27B", "main")
    assert card["max_pixels"] == 1024 * 1024
    assert [p.name for p in Path("data/base_vlm/student").iterdir()] == ["zreward.json"]


def test_tiny_bases_are_pretrained_with_their_max_pixels(root: Path) -> None:
    smoke = ROOT / "params/smoke.yaml"
    overlay = yaml.safe_load(smoke.read_text())
    overlay["world"] |= {"size": 8, "held_out": 2, "pretraining_prompts": 8, "held_out_prompts": 2}
    overlay["base_vlm"]["student"] |= {"max_pixels": 48 * 48}
    for role in ("teacher", "student"):
        overlay["base_vlm"][role]["pretraining"] = {"steps": 1, "batch_size": 2}
    Path("over.yaml").write_text(yaml.safe_dump(overlay))
    world.run(world.Config.load("world", Path("over.yaml")))
    run(Config.load("base_vlm", Path("over.yaml")))
    sizes = []
    for role in ("teacher", "student"):
        pixels = load_backbone(Path("data/base_vlm") / role).pixels
        sizes.append(pixels.num_tokens(*pixels.size(64, 64)))
    assert sizes == [16, 36]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hub_id": "a/b"}, "either hub_id"),
        ({"hub_id": "a/b", "tiny": None}, "needs a revision"),
        ({"pretraining": None}, "tiny needs pretraining"),
        ({"tiny": {"hidden_size": 100}}, "multiple of 4"),
        ({"max_pixels": 0}, "greater than or equal to 1"),
    ],
)
def test_contradictory_bases_are_refused(root: Path, change: dict, message: str) -> None:
    Path("over.yaml").write_text(yaml.safe_dump({"base_vlm": {"teacher": change}}))
    with pytest.raises(UserError, match=message):
        Config.load("base_vlm", Path("over.yaml"))
