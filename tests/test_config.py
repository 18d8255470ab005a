"""params.yaml: overlays, shared keys, and error messages with file, key and fix."""

import json
from pathlib import Path

import numpy as np
import pytest

from zreward_core.config import StageConfig, UserError, merge
from zreward_core.rubric import Dimension, Rubric, load_rubric


class Config(StageConfig):
    """Config of a stage."""

    steps: int = 3
    names: list[str] = ["a", "b"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 7\nstage: {steps: 5}\n")
    return tmp_path


def test_section_and_shared_keys() -> None:
    config = Config.load("stage")
    assert (config.seed, config.steps, config.names) == (7, 5, ["a", "b"])
    assert Config.load("absent").steps == 3


def test_overlay_merges_mappings_and_replaces_lists() -> None:
    Path("over.yaml").write_text("stage: {names: [c]}\n")
    config = Config.load("stage", Path("over.yaml"))
    assert (config.steps, config.names) == (5, ["c"])
    assert merge({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 7\nstage: {stepz: 5}\n", "unknown key 'stage.stepz'"),
        ("seed: 7\nstage: {steps: many}\n", "'stage.steps'"),
        ("seed: 7\nstage: 5\n", "must be a mapping"),
        ("stage: [\n", "not valid YAML"),
        ("- a\n", "mapping"),
        ("stage: {steps: 5}\n", "'stage.seed'"),
    ],
)
def test_errors_name_file_and_key(text: str, message: str) -> None:
    Path("params.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Config.load("stage")
    assert "params.yaml" in str(caught.value)


def test_missing_params_file() -> None:
    Path("params.yaml").unlink()
    with pytest.raises(UserError, match=r"params\.yaml not found"):
        Config.load("stage")


def make_rubric(**changes: object) -> Rubric:
    dimension = Dimension(name="charm", title="Charm", question="?", levels={1.0: "none"})
    content = {"name": "r", "levels": [1, 2, 3], "labels": ["a", "b", "c"]}
    return Rubric(**{**content, "dimensions": [dimension], **changes})  # type: ignore[arg-type]


def test_histogram_shares_a_score_between_neighbours() -> None:
    rubric = make_rubric()
    assert np.allclose(rubric.histogram([1.0]), [1, 0, 0])
    assert np.allclose(rubric.histogram([2.25]), [0, 0.75, 0.25])
    assert np.allclose(rubric.histogram([1.0, 3.0]), [0.5, 0, 0.5])
    assert rubric.histogram([1.4, 2.7, 2.9]) @ rubric.levels == pytest.approx(7 / 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"levels": [1, 3, 2]},
        {"labels": ["a", "a", "b"]},
        {"labels": ["a"]},
        {"dimensions": []},
        {"levels": [2, 3, 4]},
    ],
)
def test_inconsistent_rubrics_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=r"levels|labels|dimensions"):
        make_rubric(**changes)


def test_a_rubric_read_back_from_a_card_has_the_same_hash() -> None:
    levels = {3.0: "full", 1.0: "none", 2.0: "some"}
    rubric = make_rubric(
        dimensions=[Dimension(name="charm", title="Charm", question="?", levels=levels)]
    )
    content = json.loads(json.dumps(rubric.model_dump(mode="json"), sort_keys=True))
    assert Rubric(**content).sha256 == rubric.sha256
    changed = rubric.model_copy(update={"labels": rubric.labels[::-1]})
    assert changed.sha256 != rubric.sha256


def test_rubric_file_faults_name_the_file() -> None:
    with pytest.raises(UserError, match=r"data/rubric\.yaml not found"):
        load_rubric()
    Path("data").mkdir()
    Path("data/rubric.yaml").write_text("name: r\n")
    with pytest.raises(UserError, match=r"data/rubric\.yaml is not a valid rubric"):
        load_rubric()
