"""params.yaml: overlays, shared keys, and error messages with file, key and fix."""

import json
from pathlib import Path

import numpy as np
import pytest

from zreward_core.annotations.formats.json_records import load_json, read_jsonl
from zreward_core.annotations.formats.label_studio_export import load_export
from zreward_core.annotations.formats.records import Wanted, parsed
from zreward_core.config import (
    MAX_JSON_DEPTH,
    Rate,
    Settings,
    StageConfig,
    UserError,
    merge,
    parse_json,
)
from zreward_core.dvc import RWLOCK, read_rwlock
from zreward_core.rubric import Dimension, Rubric, load_rubric
from zreward_core.runtime.launch_settings import read_launcher
from zreward_core.schemas import read_json


class Inner(Settings):
    """A part of it."""

    rate: Rate = 0.1


class Config(StageConfig):
    """Config of a stage."""

    steps: int = 3
    inner: Inner | None = None
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


@pytest.mark.parametrize(
    ("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), (' [ "[]" , [', "]]")]
)
def test_json_that_is_nested_too_deeply_is_malformed(opening: str, closing: str) -> None:
    levels = sum(map(opening.replace('"[]"', "").count, "[{"))
    for encode in (str, str.encode):
        inner = MAX_JSON_DEPTH // levels
        assert parse_json(encode(opening * inner + "1" + closing * inner))
        for depth in (inner + 1, 100_000):
            with pytest.raises(ValueError, match="nested more than 400 levels deep"):
                parse_json(encode(opening * depth + "1" + closing * depth))
    assert parse_json(json.dumps(["[" * 1000])) == ["[" * 1000]
    assert len(parse_json("[" + "[]," * 1000 + "[]]")) == 1001


@pytest.mark.parametrize("depth", [500, 100_000])
def test_every_reader_of_json_refuses_what_is_nested_too_deeply(depth: int) -> None:
    bomb, path = "[" * depth + "]" * depth, Path("bomb.json")
    path.write_text(bomb)
    for read in (read_json, load_export, load_json):
        with pytest.raises(UserError, match=r"bomb\.json.*nested more than 400 levels deep"):
            read(path)
    wanted = Wanted(names=("a",))
    path.write_text(f'{{"a": {bomb}}}\n{{"a": 1}}\n')
    (records,) = read_jsonl(path, wanted)
    assert (len(records), len(records.broken)) == (1, 1)
    assert parsed(bomb) == bomb
    Path(".dvc/tmp").mkdir(parents=True)
    RWLOCK.write_text(bomb)
    assert read_rwlock() is None


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
        ("seed: 7\nstage: {step: 5}\n", "'stage.step'; did you mean 'steps'"),
        ("seed: 7\nstage: {inner: {ratio: 1}}\n", "'stage.inner.ratio'; did you mean 'rate'"),
        ("seed: 7\nstage: false\n", "must be a mapping"),
        ("seed: 7\nstage: {inner: {rate: .inf}}\n", "'stage.inner.rate'"),
        ("seed: -7\n", "'seed'"),
        ("seed: 7\nclaims: 'no'\n", "'claims'"),
        ("seed: 7\nsplits: {train: 0.9, validation: 0.2}\n", "add up to less than 1"),
        ("seed: 7\nstage: {steps: 5, steps: 6}\n", "line 2: the key 'steps' is given twice"),
        ("seed: 7\nstage: &a {inner: *a}\n", "nested more than"),
        ("[" * 500, "nested more than"),
        ('seed: 7\nname: "\\ud800"\n', "not Unicode"),
        ("seed: !!int x\n", "not valid YAML"),
    ],
)
def test_errors_name_file_and_key(text: str, message: str) -> None:
    Path("params.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Config.load("stage")
    assert "params.yaml" in str(caught.value)


def test_missing_params_file() -> None:
    Path("params.yaml").unlink()
    with pytest.raises(UserError, match=r"not a project: it has no dvc\.yaml and no params\.yaml"):
        Config.load("stage")
    Path("dvc.yaml").touch()
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
        {"levels": [1, 2, float("inf")]},
        {"levels": [1, 2, float("nan")]},
        {"levels": [1, 2, 1e30]},
        {"levels": [1, 2, 2 + 1e-12]},
        {"levels": [True, 2, 3]},
        {"labels": ["a", "b", ""]},
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


def test_a_level_is_described_once() -> None:
    with pytest.raises(ValueError, match="describes a level twice"):
        Dimension(name="charm", title="Charm", question="?", levels={1.0: "a", "1.0": "b"})


@pytest.mark.parametrize("name", ["params.yaml", "data/rubric.yaml", "launch.yaml", "profile.yaml"])
def test_a_key_that_is_given_twice_is_refused(name: str) -> None:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text("seed: 1\na: {b: 1}\na: 2\n")
    readers = {
        "params.yaml": lambda: Config.load("stage"),
        "data/rubric.yaml": load_rubric,
        "launch.yaml": lambda: read_launcher("world", ("world",)),
        "profile.yaml": lambda: Config.load("stage", path),
    }
    with pytest.raises(UserError, match=rf"{name} line 3: the key 'a' is given twice"):
        readers[name]()


def test_rubric_file_faults_name_the_file() -> None:
    with pytest.raises(UserError, match=r"data/rubric\.yaml not found"):
        load_rubric()
    Path("data").mkdir()
    Path("data/rubric.yaml").write_text("name: r\n")
    with pytest.raises(UserError, match=r"data/rubric\.yaml is not a valid rubric"):
        load_rubric()
