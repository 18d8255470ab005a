"""Annotate: a raw export made from pixels and prompts alone."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.stages.annotation_root import make_root
from zreward_core.annotations.label_studio.exemplars import load_exemplars
from zreward_core.config import UserError
from zreward_core.images import decode, write_images
from zreward_core.rubric import load_rubric
from zreward_core.schemas import normalise_prompt
from zreward_core.stages import annotate
from zreward_core.stages.annotate import Config
from zreward_core.world.oracle import judge

ITEMS = Path("data/candidates/items.parquet")
EXPORT = Path("data/annotate/export.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with candidates and annotate's output."""
    root = tmp_path_factory.mktemp("annotate") / "root"
    make_root(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        annotate.run(Config.load("annotate"))
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the current folder."""
    shutil.copytree(made, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


def test_export_has_the_shape_of_label_studios(root: Path) -> None:
    tasks = json.loads(EXPORT.read_text())
    assert len(tasks) == 48
    assert [task["id"] for task in tasks] == list(range(1, 49))
    every = [one for task in tasks for one in task["annotations"]]
    assert {one["was_cancelled"] for one in every} == {True, False}
    assert all(not one["result"] for one in every if one["was_cancelled"])
    people = [one["completed_by"] for one in every]
    assert {type(person) for person in people} == {int, dict}
    sound = [item for one in every for item in one["result"] if item.get("type") == "choices"]
    assert {item["to_name"] for item in sound} == {"image"}
    levels = {choice for item in sound for choice in item["value"]["choices"]}
    assert {"1", "2.5", "5"} < levels
    references = [task["data"]["image"] for task in tasks]
    assert sum(one.startswith("images/") and len(one) == 75 for one in references) == 47


def test_candidates_of_a_prompt_are_seen_by_the_same_people(root: Path) -> None:
    people: dict[str, set] = {}
    for task in json.loads(EXPORT.read_text()):
        ids = [one["completed_by"] for one in task["annotations"]]
        team = tuple(one["id"] if isinstance(one, dict) else one for one in ids)
        people.setdefault(task["data"]["prompt"], set()).add(team)
    assert all(len(teams) == 1 for teams in people.values())
    assert {len(team) for teams in people.values() for team in teams} == {1, 2, 4}


def test_ids_generators_and_order_leave_no_trace(root: Path) -> None:
    before = EXPORT.read_bytes()
    table = pd.read_parquet(ITEMS).sample(frac=1, random_state=3)
    for column in ("item_id", "prompt_id", "generator"):
        table[column] = table[column].sample(frac=1, random_state=4).to_numpy()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), ITEMS)
    shard = Path("data/candidates/images/00000.parquet")
    images = pd.read_parquet(shard).sample(frac=1, random_state=5)
    images.to_parquet(shard)
    annotate.run(Config.load("annotate"))
    assert EXPORT.read_bytes() == before


def test_generators_need_not_be_known(root: Path) -> None:
    before = EXPORT.read_bytes()
    pd.read_parquet(ITEMS)[["prompt", "image_id"]].to_parquet(ITEMS)
    annotate.run(Config.load("annotate"))
    assert EXPORT.read_bytes() == before


def test_people_get_tasks_only(root: Path) -> None:
    Path("params.yaml").write_text(
        'seed: 5\nannotate: {simulate: false, image_prefix: "/data/local-files/?d="}'
    )
    annotate.run(Config.load("annotate"))
    assert not EXPORT.exists()
    tasks = json.loads(Path("data/annotate/tasks.json").read_text())
    assert len(tasks) == 48
    assert tasks[0]["data"]["image"].startswith("/data/local-files/?d=")
    assert Path("data/annotate/labeling_config.xml").is_file()


def test_another_rubric_maps_its_dimensions_and_scale(root: Path) -> None:
    Path("data/rubric.yaml").write_text(
        "name: other\nlevels: [1, 4, 7, 10]\nlabels: [a, b, c, d]\n"
        "dimensions: [{name: fidelity, title: F, question: Q, levels: {}}]\n"
    )
    settings = "simulate: true, exemplars: 1, malformed: 0"
    Path("params.yaml").write_text(f"seed: 5\nannotate: {{{settings}}}")
    with pytest.raises(UserError, match=r"annotate.aspects.*fidelity"):
        annotate.run(Config.load("annotate"))
    assert EXPORT.exists(), "a failed run leaves the last output as it was"
    Path("params.yaml").write_text(
        f"seed: 5\nannotate: {{{settings}, aspects: {{fidelity: alignment}}}}"
    )
    annotate.run(Config.load("annotate"))
    every = [one for task in json.loads(EXPORT.read_text()) for one in task["annotations"]]
    items = [item for one in every for item in one["result"]]
    assert {item["from_name"] for item in items} == {"fidelity"}
    assert {item["value"]["choices"][0] for item in items} == {"1", "4", "7", "10"}


def test_faults_of_the_user(root: Path) -> None:
    Path("params.yaml").write_text("seed: 5\nannotate: {num_annotators: 3}")
    with pytest.raises(UserError, match="overlap of 5"):
        Config.load("annotate")
    Path("params.yaml").write_text("seed: 5\nannotate: {simulate: true}\n")
    config = Config.load("annotate")
    table = pd.read_parquet(ITEMS)
    table.assign(prompt="a cat on a sofa").to_parquet(ITEMS)
    with pytest.raises(UserError, match=r"a cat on a sofa.*annotate.simulate: false"):
        annotate.run(config)
    table.assign(image_id="gone").to_parquet(ITEMS)
    with pytest.raises(UserError, match="row 1: image gone is in no shard"):
        annotate.run(config)
    write_images([], Path("data/candidates/images"))
    ITEMS.unlink()
    with pytest.raises(UserError, match="zreward candidates"):
        annotate.run(config)


def test_exemplars_cover_the_levels_and_show_no_rated_prompt(root: Path) -> None:
    rubric = load_rubric()
    exemplars = load_exemplars(Path("data/annotate/exemplars"), rubric)
    levels = Counter(pair for one in exemplars for pair in one.scores.items())
    assert set(levels.values()) == {1}
    assert len(levels) >= 30, "nearly all of 36 levels have an exemplar"
    rated = {normalise_prompt(prompt) for prompt in pd.read_parquet(ITEMS)["prompt"]}
    assert rated.isdisjoint(normalise_prompt(one.prompt) for one in exemplars)
    for one in exemplars[:6]:
        seen = judge(decode((Path("data/annotate/exemplars") / one.image).read_bytes()), one.prompt)
        for name, level in one.scores.items():
            assert abs(seen.scores[name] - level) <= 0.15
