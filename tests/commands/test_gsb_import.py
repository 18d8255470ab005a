"""Choices are aggregated by equation 21, independently of the sides."""

import json
from pathlib import Path

import numpy as np
import pytest

from zreward_core.commands.people.gsb_export import export_pairs, load_pairs
from zreward_core.commands.people.gsb_import import import_judgements
from zreward_core.config import UserError
from zreward_core.evaluation.gsb import blind_pairs
from zreward_core.images import encode_png, write_images
from zreward_core.schemas import read_json

EXPORT = Path("export.json")
RUBRIC = """
name: one
levels: [1, 2]
labels: [a, b]
dimensions: [{name: charm, title: Charm, question: "Charming?", levels: {}}]
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    images = [encode_png(np.full((4, 4, 3), 9 * n, np.uint8)) for n in range(8)]
    names = write_images(images, Path("data/evaluate_gsb/images"))
    Path("data/rubric.yaml").write_text(RUBRIC)
    Path("params.yaml").write_text("seed: 3\n")
    pairs = blind_pairs(["p1", "p1", "p2", "p2"], seed=2)
    pairs = pairs.assign(prompt="a cat", left_image_id=names[:4], right_image_id=names[4:])
    pairs.to_parquet("data/evaluate_gsb/judgements.parquet")
    return tmp_path


def annotated(*votes: dict, **more: object) -> dict:
    """An annotation; votes are {question: choice}."""
    result = [
        {"from_name": name, "to_name": "left", "type": "choices", "value": {"choices": [choice]}}
        for vote in votes
        for name, choice in vote.items()
    ]
    return {"result": result, "completed_by": 4, "was_cancelled": False} | more


def write(annotations: list[list[dict]]) -> None:
    tasks = json.loads(Path("gsb/tasks.json").read_text())
    rows = [
        {**task, "id": n, "annotations": found}
        for n, (task, found) in enumerate(zip(tasks, annotations, strict=True))
    ]
    EXPORT.write_text(json.dumps(rows))


def test_choices_are_unblinded(root: Path) -> None:
    assert export_pairs(Path("gsb"), "/served/") == "gsb: 4 blind pairs"
    tuned = ["left" if side == "tuned" else "right" for side in load_pairs()["left"]]
    base = ["right" if side == "left" else "left" for side in tuned]
    votes = [{"charm": tuned[n], "overall": base[n] if n < 1 else "same"} for n in range(4)]
    write([[annotated(vote)] for vote in votes])
    import_judgements(EXPORT)
    result = read_json(Path("reports/gsb.json"))
    charm = {"good": 4, "same": 0, "bad": 0, "gsb": 1.0, "low": 1.0, "high": 1.0}
    assert result["charm"] == charm
    assert {key: result["overall"][key] for key in ("good", "same", "bad", "gsb")} == {
        "good": 0, "same": 3, "bad": 1, "gsb": -0.25,
    }  # fmt: skip


def test_tasks_do_not_tell_who_is_who(root: Path) -> None:
    export_pairs(Path("gsb"), "/served/")
    for task in json.loads(Path("gsb/tasks.json").read_text()):
        assert set(task["data"]) == {"pair", "prompt", "left", "right"}
        for side in ("left", "right"):
            assert (Path("gsb") / task["data"][side].removeprefix("/served/")).is_file()
    output = Path("gsb/tasks.json").read_text() + Path("gsb/labeling_config.xml").read_text()
    assert "tuned" not in output and "base" not in output


def test_several_people_and_what_is_left_out(root: Path) -> None:
    export_pairs(Path("gsb"), "")
    odd = {"from_name": "charm", "type": "choices", "value": {"choices": ["maybe"]}}
    write(
        [
            [annotated({"charm": "same"}), annotated({"charm": "same"}, completed_by={"id": 5})],
            [annotated(was_cancelled=True)],
            [annotated({"charm": "same", "old question": "left"})],
            [annotated(result=[odd, "no object"])],
        ]
    )
    output = import_judgements(EXPORT, Path("people.json"))
    assert "3 judgements of 2 pairs (annotators: 2)" in output
    assert "left out: 1 skipped or empty" in output
    assert "left out: 3 not a choice of left, same or right" in output
    result = read_json(Path("people.json"))
    assert (result["charm"]["same"], result["charm"]["gsb"]) == (3, 0.0)
    empty = {"good": 0, "same": 0, "bad": 0, "gsb": None, "low": None, "high": None}
    assert result["overall"] == empty


def test_each_person_has_one_judgement_per_pair_and_question(root: Path) -> None:
    """Case 36: the same annotation twice, a second one a day later, the old key, no annotator."""
    export_pairs(Path("gsb"), "")
    tuned = ["left" if side == "tuned" else "right" for side in load_pairs()["left"]]
    other = ["right" if side == "left" else "left" for side in tuned]
    times = ["2026-02-01T10:00:00Z", "2026-01-31T10:00:00Z"]
    first = annotated({"charm": tuned[0]}, id=1, created_at=times[1])
    later = annotated({"charm": other[0]}, id=2, created_at=times[0])
    nameless = [annotated({"charm": "same"}, id=n, completed_by=None) for n in (6, 7)]
    write([[later, first, first], [annotated({"charm": tuned[1]}, id=3)], nameless, []])
    EXPORT.write_text(EXPORT.read_text().replace('"annotations"', '"completions"'))
    output = import_judgements(EXPORT)
    assert "4 judgements of 3 pairs (annotators: 1 and unnamed ones)" in output
    assert "left out: 1 answered again later by the same annotator" in output
    assert "left out: 1 in the file twice (the same annotation)" in output
    charm = read_json(Path("reports/gsb.json"))["charm"]
    assert (charm["good"], charm["same"], charm["bad"]) == (1, 2, 1)


def test_faults_of_the_user(root: Path) -> None:
    with pytest.raises(UserError, match=r"export\.json not found"):
        import_judgements(EXPORT)
    EXPORT.write_text("{}")
    with pytest.raises(UserError, match="JSON-MIN"):
        import_judgements(EXPORT)
    export_pairs(Path("gsb"), "")
    write([[], [], [], []])
    with pytest.raises(UserError, match=r"has no judgements.*None of its 4 tasks has an"):
        import_judgements(EXPORT)
    EXPORT.write_text(EXPORT.read_text().replace('"pair": "', '"pair": "x'))
    with pytest.raises(UserError, match=r"task 0: pair 'x.*' is not in .*zreward gsb export"):
        import_judgements(EXPORT)
    Path("data/evaluate_gsb/judgements.parquet").unlink()
    with pytest.raises(UserError, match="zreward evaluate_gsb"):
        import_judgements(EXPORT)
