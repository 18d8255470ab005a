import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pipelines import curves, images
from pipelines.commands import DAGSTER_UI
from pipelines.curves import curves_image
from pipelines.metadata import MLFLOW_UI, REPORTS_UI, describe
from pipelines.promotion import promotion_metadata
from pipelines.tables import INLINE, markdown_table, natural, read_history, result_table
from zreward_core.dvc import read_graph

ROOT = Path(__file__).parents[2]


def test_a_large_image_is_scaled_down_below_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DAGSTER_UI, raising=False)
    noise = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), dtype=np.uint8)
    text = images.shown(Image.fromarray(noise), "sheet")
    assert len(text) < images.MAX_BYTES + 100 and text.startswith("![sheet](data:image/")
    content = base64.b64decode(text.split("base64,")[1].rstrip(")"))
    width, height = Image.open(io.BytesIO(content)).size
    assert abs(width / height - 16 / 9) < 0.02


def test_tables_have_three_decimals_and_escape_bars() -> None:
    table = markdown_table(["a", "b"], [["x|y", 0.123456], [True, None]])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert rows[0] == ["a", "b"] and rows[2:] == [["x/y", "0.123"], ["yes", ""]]


def test_with_the_servers_of_make_ui_an_image_is_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DAGSTER_UI, "http://127.0.0.1:3000")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    texts = {images.shown(Image.new("RGB", (8, 8), colour), "x") for colour in ("red", "blue")}
    assert len(texts) == 2 and len(list((tmp_path / "images").iterdir())) == 2
    assert all(text.startswith("![x](/zreward-images/") for text in texts)
    wide = images.shown(Image.new("RGB", (1200, 300)), "x")
    sizes = [
        Image.open(tmp_path / "images" / name).size
        for name in re.findall(r"/zreward-images/([^)]+)", wide)
    ]
    assert sizes == [(420, 105), (1200, 300)] and wide.startswith("[![x](")
    fine = images.shown(Image.effect_noise((420, 400), 90), "fine")  # as a data URI it is smaller
    name = re.findall(r"/zreward-images/([^)]+)", fine)[0]
    assert Image.open(tmp_path / "images" / name).size == (420, 400)


def test_a_table_is_cut_to_what_dagster_shows_in_place() -> None:
    rows = [[f"annotator {n}", 0.5] for n in range(200)]
    table = markdown_table(["", "agreement"], rows)
    shown = table.count("annotator")
    assert len(table) < INLINE and table.endswith(f"|… {200 - shown} more rows|")


def test_annotators_are_sorted_by_number_and_all_dimensions_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "data/validate"
    folder.mkdir(parents=True)
    row = {"included": True, "num_ratings": 9, "agreement": 0.5, "bias": 0.1, "noise": 0.2}
    audit = {
        "annotators": dict.fromkeys(("1", "10", "2"), row),
        "alpha": {"charm": 0.5, "depth": 0.25, "unrated": None},
    }
    (folder / "audit.json").write_text(json.dumps(audit))
    shown = describe(tmp_path, read_graph(ROOT)["validate"], {}, "run")
    lines = shown["results"].value.splitlines()
    assert [line.split("|")[1] for line in lines[2:]] == ["1", "2", "10"]
    assert sorted(["a10", "a9", "b"], key=natural) == ["a9", "a10", "b"]
    assert shown["alpha_charm"].value == 0.5 and shown["alpha_depth"].value == 0.25


def test_a_stage_that_trains_shows_its_curves(tmp_path: Path) -> None:
    for role, steps in (("teacher", 3), ("student", 1)):
        folder = tmp_path / "data/base_vlm" / role
        folder.mkdir(parents=True)
        rows = [{"step": step, "loss": 3.0 - step} for step in range(steps)]
        (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {"student/loss", "teacher/loss", "step"} == {
        name for row in read_history(tmp_path / "data/base_vlm") for name in row
    }
    stage = read_graph(ROOT)["base_vlm"]
    assert "|teacher/loss|3.000|1.000|3.000|1.000|" in result_table(tmp_path, stage)
    shown = describe(tmp_path, stage, {}, "run")
    assert shown["training curves"].value.startswith("![training curves](")


def test_curves_have_axes_and_those_left_out_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda canvas: drawn.append(canvas.figure))
    monkeypatch.setattr(FigureCanvasAgg, "buffer_rgba", lambda _: np.zeros((1, 1, 4), np.uint8))
    row = {"step": 0, "student/loss": 3.0, "trace/length": 7.0, "validation/hpa": 0.5, "new/x": 1}
    assert curves_image([row]) is not None
    monkeypatch.setattr(curves, "MAX_PANELS", 3)
    curves_image([row])
    panels = [[axes.get_ylabel() for axes in one.axes if axes.axison] for one in drawn]
    assert panels == [
        ["share of pairs", "value", "nats per token", "tokens"],
        ["share of pairs", "value", "nats per token"],
    ]
    assert [one.get_supxlabel() for one in drawn] == ["", "1 more in MLflow"]


@pytest.mark.parametrize(
    ("stage", "file", "line"),
    [
        ("evaluate_gsb", {"overall": {"good": 5, "same": 2, "bad": 1, "gsb": 0.5}},
         "|overall|+0.500 [-0.100,\N{NO-BREAK SPACE}+0.250]|5|2|1|"),
        ("finetune_generator", {"reward": {"mean": {"before": 3.0, "after": 3.2}}},
         "|reward / mean|3.000|3.200|+0.200 [-0.100,\N{NO-BREAK SPACE}+0.250]|"),
    ],
)  # fmt: skip
def test_intervals_stand_beside_their_number(
    tmp_path: Path, stage: str, file: dict, line: str
) -> None:
    folder = tmp_path / "data" / stage
    folder.mkdir(parents=True)
    row = file.get("overall") or file["reward"]["mean"]
    row |= {"low": -0.1, "high": 0.25}
    name = "gsb.json" if stage == "evaluate_gsb" else "metrics.json"
    (folder / name).write_text(json.dumps(file, sort_keys=True))
    table = result_table(tmp_path, read_graph(ROOT)[stage])
    assert "[95 % interval]|" in table.splitlines()[0] and table.splitlines()[2] == line
    row["low"] = row["gsb"] = None  # nothing was judged
    (folder / name).write_text(json.dumps(file))
    assert "None" not in result_table(tmp_path, read_graph(ROOT)[stage])


def test_a_promotion_shows_the_difference_with_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MLFLOW_UI, "http://127.0.0.1:5000")
    (tmp_path / "reports").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/champion.yaml").write_text("source: trained\n")
    record = {"version": 3, "difference": 0.1370136, "low": 0.1254, "high": 0.149, "margin": 0.02}
    (tmp_path / "reports/promotion.json").write_text(json.dumps(record))
    shown = promotion_metadata(tmp_path)
    interval = "+0.137 [+0.125,\N{NO-BREAK SPACE}+0.149]"
    assert f"|HPA difference [95 % interval]|{interval}|" in shown["gate"].value
    assert "|low|" not in shown["gate"].value
    assert shown["difference_to_opponent"].value == 0.137
    address = "http://127.0.0.1:5000/#/models/zreward-student/versions/3"
    assert shown["MLflow model"].value.startswith(f"[version 3]({address}")
    (tmp_path / "reports/promotion.json").write_text('{"version": 1, "difference": null}')
    assert "difference_to_opponent" not in promotion_metadata(tmp_path)


def test_an_evaluation_is_read_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data/evaluate"
    folder.mkdir(parents=True)
    whole = {"hpa": 0.7, "hpa_low": 0.6, "hpa_high": 0.8, "plcc": 0.5, "srcc": 0.4, "ece": 0.1}
    metrics = {"models": {"student": {"overall": whole}, "zero_shot": {"overall": whole}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    Image.new("RGB", (8, 8)).save(folder / "hpa.png")
    page = tmp_path / "reports/viewer/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    monkeypatch.setenv(REPORTS_UI, "http://127.0.0.1:8000")
    lock = {"evaluate": {"outs": [{"path": "data/evaluate", "md5": "abc.dir", "size": 2000}]}}
    shown = describe(tmp_path, read_graph(ROOT)["evaluate"], lock, "run")
    assert shown["how"] == "run"
    assert "HPA [95 % interval]" in shown["results"].value
    assert "|zero-shot|0.700 [0.600,\N{NO-BREAK SPACE}0.800]|0.500|" in shown["results"].value
    assert shown["student_hpa"].value == 0.7
    assert "abc.dir" in shown["files"].value and "2 kB" in shown["files"].value
    assert shown["hpa"].value.startswith("![hpa]")
    address = "http://127.0.0.1:8000/viewer/index.html"
    assert shown["test and pool items"].value == address


def test_a_stage_without_files_has_metadata(tmp_path: Path) -> None:
    for stage in read_graph(ROOT).values():
        assert describe(tmp_path, stage, {}, "run")["how"] == "run"
