"""base_vlm: the two kinds of base, and the rejection of contradictory settings."""

from pathlib import Path

import pytest
import yaml

from zreward_core.config import UserError
from zreward_core.models.card import CARD, read_card
from zreward_core.models.loading import load_backbone
from zreward_core.models.tiny import TinySizes, build_backbone
from zreward_core.rubric import load_rubric
from zreward_core.schemas import tree_hash
from zreward_core.stages import world
from zreward_core.stages.base_vlm import Config, run, warn_of_rubric

ROOT = Path(__file__).parents[2]
SIZES = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "vision_hidden_size": 32,
    "vision_intermediate_size": 64,
}

HUB = {"hub_id": "checkpoint", "revision": "main", "path": None, "sha256": None}
"""A folder, used as a hub id."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/rubric.yaml").write_text((ROOT / "data/rubric.yaml").read_text())
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


def test_hub_bases_are_pointers(root: Path) -> None:
    _local_base(root)
    run(_overlay(HUB | {"max_pixels": 48 * 48}))
    card = read_card(Path("data/base_vlm/teacher"))
    assert (card["hub_id"], card["revision"]) == ("checkpoint", "main")
    assert card["max_pixels"] == 48 * 48
    assert [p.name for p in Path("data/base_vlm/student").iterdir()] == ["zreward.json"]


@pytest.mark.parametrize("own_rubric", [False, True])
def test_the_demos_rubric_is_warned_of_with_other_models(
    root: Path, own_rubric: bool, caplog: pytest.LogCaptureFixture
) -> None:
    _local_base(root)
    if own_rubric:
        text = Path("data/rubric.yaml").read_text()
        Path("data/rubric.yaml").write_text(text.replace("sharp and clean", "free of artefacts"))
    run(_overlay(HUB))
    warned = "data/rubric.yaml is the rubric of the demo"
    assert caplog.text.count(warned) == (0 if own_rubric else 1)
    assert ("base_vlm.teacher and base_vlm.student" in caplog.text) != own_rubric


def test_the_demo_has_its_own_rubric(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_rubric(Config.load("base_vlm"), load_rubric())
    assert not caplog.records


@pytest.mark.parametrize(
    "file", ["tokenizer.json", "chat_template.jinja", "preprocessor_config.json", "config.json"]
)
def test_a_hub_base_that_lacks_a_file_is_refused(root: Path, file: str) -> None:
    _local_base(root)
    (root / "checkpoint" / file).unlink()
    with pytest.raises(UserError, match=r"^checkpoint"):
        run(_overlay(HUB))


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
        ({"hub_id": "a/b"}, "give one of hub_id"),
        ({"hub_id": "a/b", "path": None}, "needs revision"),
        ({"path": None}, "give one of hub_id"),
        ({"sha256": None}, "path needs sha256"),
        ({"sha256": "abc"}, "should match pattern"),
        ({"path": None, "tiny": SIZES}, "tiny needs pretraining"),
        ({"path": None, "tiny": SIZES | {"hidden_size": 100}}, "multiple of 4"),
        ({"max_pixels": 0}, "greater than or equal to 1"),
    ],
)
def test_contradictory_bases_are_refused(root: Path, change: dict, message: str) -> None:
    Path("over.yaml").write_text(yaml.safe_dump({"base_vlm": {"teacher": change}}))
    with pytest.raises(UserError, match=message):
        Config.load("base_vlm", Path("over.yaml"))


def _local_base(root: Path, folder: str = "checkpoint") -> str:
    """A tiny base in a folder of its own, and an overlay that names it; returns its sha256."""
    rubric, prompt = load_rubric(), Config.load("base_vlm").prompt
    made = build_backbone(TinySizes(**SIZES), ["a", "b"], rubric, prompt, seed=1)
    made.save(root / folder, {})
    (root / folder / CARD).unlink()
    return tree_hash(root / folder)


def _overlay(teacher: dict) -> Config:
    """The config with a teacher and the student's settings of the profile smoke."""
    overlay = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    overlay["base_vlm"] |= {"teacher": teacher, "student": teacher}
    Path("over.yaml").write_text(yaml.safe_dump(overlay))
    return Config.load("base_vlm", Path("over.yaml"))


def test_a_local_base_is_opened_by_its_pointer(root: Path) -> None:
    found = _local_base(root)
    run(_overlay({"path": "checkpoint", "sha256": found, "max_pixels": 48 * 48}))
    assert [p.name for p in Path("data/base_vlm/teacher").iterdir()] == ["zreward.json"]
    backbone = load_backbone(Path("data/base_vlm/teacher"))
    assert backbone.rubric.sha256 == load_rubric().sha256
    assert backbone.pixels.num_tokens(*backbone.pixels.size(64, 64)) == 36


def test_a_changed_local_base_is_refused(root: Path) -> None:
    found = _local_base(root)
    (root / "checkpoint/config.json").write_text("{}")
    with pytest.raises(UserError, match=rf"base_vlm.teacher.sha256' is {found}, but the files in"):
        run(_overlay({"path": "checkpoint", "sha256": found}))
    assert not Path("data/base_vlm").exists()


def test_a_local_base_that_cannot_be_opened_is_refused(root: Path) -> None:
    _local_base(root)
    (root / "checkpoint/config.json").unlink()
    overlay = {"path": "checkpoint", "sha256": tree_hash(root / "checkpoint")}
    with pytest.raises(UserError, match="checkpoint is not a readable checkpoint"):
        run(_overlay(overlay))
    with pytest.raises(UserError, match="there is no folder elsewhere"):
        run(_overlay(overlay | {"path": "elsewhere"}))
