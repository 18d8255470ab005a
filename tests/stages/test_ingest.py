"""Ingest: one accounting for all sources; errors name the file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.stages.annotation_root import make_root
from zreward_core.annotations.ingest.summary import summary_rows
from zreward_core.config import UserError
from zreward_core.images import ImageStore, encode_png, image_id
from zreward_core.schemas import OPINIONS, QUARANTINE, RATINGS, read_table
from zreward_core.stages import annotate, ingest
from zreward_core.stages.ingest import Config

OUTPUT = Path("data/ingest")


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with annotate's export."""
    root = tmp_path_factory.mktemp("ingest") / "root"
    make_root(root, num_prompts=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        annotate.run(annotate.Config.load("annotate"))
    return root


@pytest.fixture
def root(annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the current folder."""
    shutil.copytree(annotated, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


def drop(name: str, tasks: object) -> None:
    path = Path("data/drops") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tasks if isinstance(tasks, str) else json.dumps(tasks))


def load(sources: str) -> Config:
    Path("params.yaml").write_text(f"seed: 5\ningest: {{sources: [{sources}]}}")
    return Config.load("ingest")


def one_task(image: str = "x.png", choice: str = "3") -> dict:
    item = {"from_name": "realism", "to_name": "image", "type": "choices"}
    result = [{**item, "value": {"choices": [choice]}}]
    judged = {"id": 1, "completed_by": 4, "result": result, "was_cancelled": False}
    return {"id": 1, "data": {"prompt": "a star", "image": image}, "annotations": [judged]}


def test_the_simulated_export_is_accounted_for(root: Path, capsys: pytest.CaptureFixture) -> None:
    ingest.run(Config.load("ingest"))
    summary = json.loads((OUTPUT / "summary.json").read_text())["sources"]["annotate"]
    ratings = read_table(OUTPUT / "ratings.parquet", RATINGS)
    quarantine = read_table(OUTPUT / "quarantine.parquet", QUARANTINE)
    export = json.loads(Path("data/annotate/export.json").read_text())
    every = [one for task in export for one in task["annotations"]]
    native = sum(max(1, len(one["result"])) for one in every)
    skipped = sum(one["was_cancelled"] for one in every)
    assert summary["native"] == native == len(ratings) + len(quarantine) + skipped
    assert summary["ignored"] == ({"skipped": skipped} if skipped else {})
    assert sorted(quarantine["reason"]) == [
        "malformed_record",
        "missing_value",
        "out_of_range",
        "unknown_dimension",
    ]
    assert summary["without_image"] == ratings["image_id"].isna().sum() > 0
    assert ratings["row_ref"].is_unique
    shown = capsys.readouterr().out
    assert "out_of_range" in shown and str(native) in shown


def test_items_are_the_candidates(root: Path) -> None:
    ingest.run(Config.load("ingest"))
    ratings = read_table(OUTPUT / "ratings.parquet", RATINGS).dropna(subset="image_id")
    candidates = pd.read_parquet("data/candidates/items.parquet")
    assert set(ratings["item_id"]) <= set(candidates["item_id"])
    assert ratings["item_id"].nunique() >= len(candidates) - 3


def test_a_second_run_writes_the_same_bytes(root: Path) -> None:
    ingest.run(Config.load("ingest"))
    first = {path.name: path.read_bytes() for path in OUTPUT.rglob("*") if path.is_file()}
    ingest.run(Config.load("ingest"))
    assert {path.name: path.read_bytes() for path in OUTPUT.rglob("*") if path.is_file()} == first
    assert len(read_table(OUTPUT / "opinions.parquet", OPINIONS)) == 0


def test_folders_globs_and_plain_images(root: Path) -> None:
    image = encode_png(np.full((8, 8, 3), 90, np.uint8))
    drop("people/first.json", [one_task("a.png")])
    drop("people/more/second.json", [one_task("a.png")])
    drop("other/third.json", [one_task("a.png")])
    Path("data/drops/images").mkdir()
    Path("data/drops/images/a.png").write_bytes(image)
    config = load(
        "{name: folder, path: data/drops/people, images: data/drops/images},"
        "{name: glob, path: 'data/drops/*/th*.json'}"
    )
    ingest.run(config)
    ratings = read_table(OUTPUT / "ratings.parquet", RATINGS)
    assert ratings["source"].tolist() == ["folder", "folder", "glob"]
    assert ratings["row_ref"].iloc[1].startswith("data/drops/people/more/second.json#task 1 ")
    assert ratings["image_id"].iloc[0] == image_id(image)
    assert ratings["image_id"].isna().tolist() == [False, False, True]
    assert list(ImageStore(OUTPUT / "images")) == [image_id(image)]
    summary = json.loads((OUTPUT / "summary.json").read_text())["sources"]
    assert summary["folder"]["resubmissions"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no usable ratings .no records"),
        (
            [one_task(choice="77")],
            r"1 out_of_range; first out_of_range: data/drops/x.json#task 1 annotation 1",
        ),
        ('[{"id": 1,', "line 1 column 11"),
        ({"id": 1}, "a list of tasks"),
    ],
)
def test_useless_exports_stop_with_file_and_remedy(
    root: Path, content: object, message: str
) -> None:
    drop("x.json", content)
    with pytest.raises(UserError, match=message) as caught:
        ingest.run(load("{name: x, path: data/drops/x.json}"))
    assert "data/drops/x.json" in str(caught.value)
    assert "export" in str(caught.value)
    assert not OUTPUT.exists()
    assert not list(Path("data").glob(".*"))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("{name: x, path: data/drops/none.json}", "has no .json file"),
        ("{name: x, path: data/drops/x.json, images: data/drops/none}", "must name a folder"),
        ("{name: x, path: /etc/x.json}", "must be below data/drops"),
        ("{name: x, path: data/drops/../x.json}", "must be below data/drops"),
        (
            "{name: x, path: data/drops/x.json, format: xls}",
            "unknown format 'xls'; known: agiqa3k, ",
        ),
        (
            "{name: x, path: data/drops/x.json, colour: red}",
            "unknown key 'ingest.sources.0.colour'",
        ),
        ("{name: x, path: data/drops/a}, {name: x, path: data/drops/b}", "distinct names"),
        ("", "there must be one"),
    ],
)
def test_wrong_params(root: Path, sources: str, message: str) -> None:
    drop("x.json", [one_task()])
    with pytest.raises(UserError, match=message):
        ingest.run(load(sources))


TABLE = (
    "{name: table, path: data/drops/t.csv, format: csv, dimension: realism,"
    " columns: {image: img, annotator_id: who, score: stars},"
    " scale: {min: 1, max: 5, higher_is_better: true}}"
)


def test_several_formats_share_tables_and_one_account(root: Path) -> None:
    drop("t.csv", "img,who,stars\nx.png,1,4\nx.png,2,9\n,,\n")
    ingest.run(load("{name: annotate, path: data/annotate/export.json}, " + TABLE))
    summary = json.loads((OUTPUT / "summary.json").read_text())["sources"]
    assert summary["table"]["native"] == 3
    assert summary["table"]["quarantine"] == {"out_of_range": 1}
    assert summary["table"]["ignored"] == {"empty_line": 1}
    ratings = read_table(OUTPUT / "ratings.parquet", RATINGS)
    counts = ratings["source"].value_counts().to_dict()
    assert counts == {"annotate": summary["annotate"]["ratings"], "table": 1}
    rows = summary_rows(summary)
    assert ("table", "quarantine", 1, "out_of_range") in rows
    assert ("table", "all", 3, "") in rows


def test_ingest_stops_at_the_declared_share_alone(root: Path) -> None:
    drop("t.csv", "img,who,stars\nx,1,4\nx,2,9\nx,3,9\n")
    with pytest.raises(
        UserError, match=r"66\.7%.*max_quarantine_share. .0\.5.*2 out_of_range"
    ) as e:
        ingest.run(load(TABLE))
    assert "first out_of_range: data/drops/t.csv#row 3" in str(e.value)
    assert not OUTPUT.exists()
    config = load(TABLE).model_copy(update={"max_quarantine_share": 0.7})
    ingest.run(config)
    assert len(read_table(OUTPUT / "quarantine.parquet", QUARANTINE)) == 2
