"""Tasks are split as requested, side by side, and do not reveal the generators."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.stages.annotation_root import make_root
from zreward_core.commands.people.export import export_annotation
from zreward_core.config import UserError
from zreward_core.images import image_id
from zreward_core.stages import annotate

FOLDER = Path("project")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_root(tmp_path / "root", num_prompts=10, num_images=3)
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


def tasks_of(person: int) -> list[dict]:
    return json.loads((FOLDER / f"tasks/annotator-{person:02d}.json").read_text())


def test_each_prompt_goes_to_so_many_people_evenly(root: Path) -> None:
    output = export_annotation(FOLDER, 5, 2, "/served/")
    assert output.startswith("project: 10 prompts with 30 images for 5 annotators, ")
    sizes = [len(tasks_of(person)) for person in range(1, 6)]
    assert sum(sizes) == 20 and max(sizes) - min(sizes) <= 2, "balanced within each split"
    prompts = Counter(task["data"]["prompt"] for n in range(1, 6) for task in tasks_of(n))
    assert len(prompts) == 10 and set(prompts.values()) == {2}
    for person in range(1, 6):
        assert len({task["data"]["prompt"] for task in tasks_of(person)}) == len(tasks_of(person))


def test_overlap_by_split_is_the_params(root: Path) -> None:
    export_annotation(FOLDER, 4, 0, "/served/")
    prompts = Counter(task["data"]["prompt"] for n in range(1, 5) for task in tasks_of(n))
    assert set(prompts.values()) <= {1, 2, 4} and len(set(prompts.values())) > 1


def test_images_lie_where_tasks_look_and_names_tell_nothing(root: Path) -> None:
    export_annotation(FOLDER, 1, 1, "/served/")
    items = pd.read_parquet("data/candidates/items.parquet")
    for task in tasks_of(1):
        assert set(task) == {"data"} and set(task["data"]) == {"prompt", "images"}
        for image in task["data"]["images"]:
            content = (FOLDER / image["image"].removeprefix("/served/")).read_bytes()
            assert image_id(content) == Path(image["image"]).stem
        expected = items.loc[items["prompt"] == task["data"]["prompt"], "image_id"]
        assert {Path(one["image"]).stem for one in task["data"]["images"]} == set(expected)
    assert "world" not in json.dumps(tasks_of(1)), "the generator's name"


def test_with_hotkeys_a_task_is_one_image(root: Path) -> None:
    output = export_annotation(FOLDER, 1, 1, "/served/", single=True)
    assert output == "project: 10 prompts with 30 images for 1 annotators, 30 to 30 tasks each"
    tasks = [task["data"] for task in tasks_of(1)]
    assert all(len(task["images"]) == 1 for task in tasks)
    assert len({task["images"][0]["image"] for task in tasks}) == 30
    assert Counter(task["prompt"] for task in tasks).most_common(1)[0][1] == 3
    assert 'hotkey="shift+4"' in (FOLDER / "labeling_config.xml").read_text()


def test_exemplars_are_shown_and_a_second_export_replaces_the_first(root: Path) -> None:
    annotate.run(annotate.Config.load("annotate"))
    export_annotation(FOLDER, 3, 1, "/served/")
    config = (FOLDER / "labeling_config.xml").read_text()
    assert "/served/exemplars/realism.png" in config
    assert (FOLDER / "exemplars/realism.png").is_file() and (FOLDER / "rubric.html").is_file()
    first = [tasks_of(n) for n in (1, 2, 3)]
    (FOLDER / "images/old.png").touch()
    export_annotation(FOLDER, 3, 1, "/served/")
    assert [tasks_of(n) for n in (1, 2, 3)] == first
    assert not (FOLDER / "images/old.png").exists()


def test_too_few_people(root: Path) -> None:
    with pytest.raises(UserError, match=r"overlap of 3 .* not 2: raise --annotators"):
        export_annotation(FOLDER, 2, 3, "")
