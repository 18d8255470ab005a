import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.metadata import MAX_BYTES, describe, inline_image, markdown_table
from zreward_core.dvc import read_graph

ROOT = Path(__file__).parents[2]


def test_a_large_image_is_scaled_down_below_the_limit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "sheet.png")
    text = inline_image(tmp_path / "sheet.png")
    assert len(text) < MAX_BYTES + 100 and text.startswith("![sheet](data:image/")
    content = base64.b64decode(text.split("base64,")[1].rstrip(")"))
    width, height = Image.open(io.BytesIO(content)).size
    assert abs(width / height - 16 / 9) < 0.02


def test_tables_have_three_decimals_and_escape_bars() -> None:
    table = markdown_table(["a", "b"], [["x|y", 0.123456], [True, None]])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert rows[0] == ["a", "b"] and rows[2:] == [["x/y", "0.123"], ["yes", ""]]


def test_an_evaluation_is_read_from_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "data/evaluate"
    folder.mkdir(parents=True)
    whole = {"hpa": 0.7, "hpa_low": 0.6, "hpa_high": 0.8, "plcc": 0.5, "srcc": 0.4, "ece": 0.1}
    metrics = {"models": {"student": {"overall": whole}, "zero_shot": {"overall": whole}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    Image.new("RGB", (8, 8)).save(folder / "hpa.png")
    lock = {"evaluate": {"outs": [{"path": "data/evaluate", "md5": "abc.dir", "size": 2000}]}}
    shown = describe(tmp_path, read_graph(ROOT)["evaluate"], lock, "run")
    assert shown["how"] == "run"
    results = " ".join(shown["results"].value.split())
    assert "HPA [95 % interval]" in results
    assert "zero shot | 0.700 [0.600, 0.800] | 0.500" in results
    assert shown["student_hpa"].value == 0.7
    assert "abc.dir" in shown["files"].value and "2 kB" in shown["files"].value
    assert shown["hpa"].value.startswith("![hpa]")


def test_a_stage_without_files_has_metadata(tmp_path: Path) -> None:
    for stage in read_graph(ROOT).values():
        assert describe(tmp_path, stage, {}, "run")["how"] == "run"
