"""Tables of public studies read using only params, counted by pandas; skipped where absent."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.annotations.sources import SHARED, Read
from zreward_core.annotations.ingest.reading import source_files
from zreward_core.annotations.ingest.settings import Source

TABLES = SHARED.parent / "cases/real"
FIVE = {"min": 1, "max": 5, "higher_is_better": True}
ZERO_TO_FIVE = {"min": 0, "max": 5, "higher_is_better": True}


@pytest.fixture
def table(drops: Path, default_rubric):
    def read(folder: str, **settings) -> tuple[Read, Path]:
        if not (TABLES / folder).is_dir():
            pytest.skip(f"{TABLES / folder} is absent; it is expected next to ZREWARD_SHARED_DATA")
        (drops / folder).symlink_to(TABLES / folder)
        path = drops / folder / settings.pop("path", "")
        source = Source(name=folder, path=path, **settings)
        return Read(source, default_rubric, source_files(source)), drops / folder

    return read


@pytest.mark.parametrize("workbook", [False, True])
def test_agiqa_1k_as_csv_and_as_a_workbook(table, workbook: bool) -> None:
    generator = {"column": "Image", "pattern": "^([^_]+)_.*$", "to": r"\1"}
    columns = {"image": "Image", "generator": generator, "mean": "MOS" if workbook else "Score"}
    shape = {"path": "AIGC_MOS_Zscore.xlsx", "format": "excel"}
    shape = shape if workbook else {"path": "AIGC_all.csv", "format": "csv"}
    if workbook:
        columns["prompt"] = "Prompt"
    read, folder = table(
        "agiqa1k", columns=columns, dimension="aesthetics", scale=ZERO_TO_FIVE, **shape
    )
    name = folder / shape["path"]
    frame = pd.read_excel(name) if workbook else pd.read_csv(name)
    assert read.summary.native == len(frame) == len(read.opinions) + len(read.quarantine)
    inside = frame[frame[columns["mean"]].between(0, 5)]
    assert len(read.opinions) == len(inside)
    expected = 1 + inside[columns["mean"]] * 4 / 5
    assert read.opinions["mean"].tolist() == pytest.approx(expected.tolist())
    makers = frame["Image"].str.split("_").str[0].value_counts().to_dict()
    assert read.opinions["generator"].value_counts().to_dict() == makers


def test_aigciqa_2023_with_deviations_on_the_raw_scale(table) -> None:
    names = {"quality": "aesthetics", "authenticity": "realism", "correspondence": "alignment"}
    raw = {"min": 1, "max": 5}
    wide = [
        {"mean": f"{one}_mos", "std": f"{one}_std", "std_scale": raw, "dimension": dimension}
        for one, dimension in names.items()
    ]
    columns = {"prompt": "prompt", "image": "name", "wide": wide}
    scale = {"min": 0, "max": 100, "higher_is_better": True}
    read, folder = table("aigciqa2023", format="csv", columns=columns, scale=scale)
    frame = pd.read_csv(folder / "AIGCIQA2023.csv")
    assert read.summary.native == len(read.opinions) == 3 * len(frame)
    stds = read.opinions[read.opinions["dimension"] == "realism"]["std"]
    assert stds.tolist() == pytest.approx(frame["authenticity_std"].tolist())


def test_observers_one_file_each(table) -> None:
    columns = {"image": "Image Name", "score": "Vote", "seconds": "Duration"}
    columns |= {"annotator_id": {"file": r"(Obs\d)\.csv$"}}
    read, folder = table(
        "observers",
        format="csv",
        files="Obs?.csv",
        columns=columns,
        dimension="realism",
        scale=FIVE,
    )
    frames = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("Obs?.csv"))}
    sizes = {name: len(frame) for name, frame in frames.items()}
    assert read.ratings.groupby("annotator_id").size().to_dict() == sizes
    assert read.summary.native == sum(sizes.values())
    whole = pd.concat(frames, names=["rater"]).reset_index("rater")
    assert read.ratings["item_id"].nunique() == whole["Image Name"].nunique()
    again = int(whole.duplicated(["rater", "Image Name"]).sum())
    assert read.resubmissions == again > 0


def test_diagramir_yes_and_no_by_criterion(table) -> None:
    criteria = {
        "Core math properties of the shape(s) are correct": "alignment",
        "Diagram is fully in frame": "aesthetics",
        "Shape(s) is closed": "plausibility",
    }
    wide = [
        {
            "column": {"column": name, "words": {"Yes": 1, "No": 0}},
            "dimension": dimension,
            "optional": True,
        }
        for name, dimension in criteria.items()
    ]
    columns = {"prompt": "prompt", "image": "image", "annotator_id": "assigned_to", "wide": wide}
    scale = {"min": 0, "max": 1, "higher_is_better": True}
    read, folder = table("diagramir", format="csv", columns=columns, scale=scale)
    frame = pd.read_csv(folder / "human_ratings.csv", keep_default_na=False)
    assert read.summary.native == 3 * len(frame)
    for name, dimension in criteria.items():
        found = read.ratings[read.ratings["dimension"] == dimension]["native_score"].value_counts()
        assert found.to_dict() == frame[name].map({"Yes": 1.0, "No": 0.0}).value_counts().to_dict()
    answered = frame[list(criteria)].isin(["Yes", "No"]).sum().sum()
    empty = frame[list(criteria)].apply(lambda cells: cells.str.strip() == "").sum().sum()
    assert len(read.ratings) == answered and read.summary.ignored["empty_result"] == empty
    assert len(read.quarantine) == 3 * len(frame) - answered - empty


def test_avt_counted_by_pandas(public) -> None:
    read = public("avt_ai_images", "evaluation/**/_ratings.csv", format="avt_ai_images")
    (path,) = (SHARED / "avt_ai_images").glob("evaluation/**/_ratings.csv")
    frame = pd.read_csv(path, keep_default_na=False, dtype=str)
    kinds = ["range_image_appeal", "range_realism", "range_prompt_matching"]
    assert read.summary.native == len(frame)
    assert len(read.ratings) == frame["rating_type"].isin(kinds).sum()
    assert read.ratings["native_score"].sum() == (
        frame["rating"][frame["rating_type"].isin(kinds)].astype(float).sum()
    )


def test_genai_bench_counted_by_pandas(public) -> None:
    read = public("genai_bench", "*.json", format="genai_bench")
    content = json.loads((SHARED / "genai_bench/genai_image.json").read_text())
    scores = pd.DataFrame(one["models"] for one in content.values()).stack().explode()
    assert read.summary.native == len(scores)
    assert read.ratings["native_score"].sum() == scores[scores.between(1, 5)].sum()
    assert len(read.quarantine) == (~scores.astype(float).between(1, 5)).sum()


def test_geneval_counted_by_the_csv_module(public) -> None:
    read = public("geneval_mturk", "annotations/*.csv", format="geneval_mturk")
    number = qualities = 0
    for path in (SHARED / "geneval_mturk").glob("annotations/*.csv"):
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        place = header.index("Answer.task-quality")
        whole = [row for row in rows if len(row) == len(header)]
        number += len(whole) + (len(rows) - len(whole)) // 2  # a split row is two lines
        qualities += sum(bool(row[place]) for row in whole)
    assert read.summary.native == 3 * number
    torn = read.summary.repaired
    found = (read.ratings["dimension"] == "aesthetics").sum()
    assert qualities <= found <= qualities + torn


def test_imagenhub_dsg_and_agiqa_counted_by_pandas(public) -> None:
    read = public("imagenhub", "*.tsv", format="imagenhub")
    paths = (SHARED / "imagenhub").glob("*rater*.tsv")
    cells = pd.concat(pd.read_csv(one, sep="\t").set_index("uid").stack() for one in paths)
    assert read.summary.native == len(read.ratings) == 2 * len(cells)
    total = sum(sum(pair) for pair in cells.map(json.loads))
    assert read.ratings["native_score"].sum() == total
    frame = pd.read_csv(next((SHARED / "dsg").glob("*likert*.csv")))
    read = public("dsg", "*likert*.csv", format="dsg_likert")
    assert read.summary.native == len(frame)
    assert read.ratings["native_score"].tolist() == frame["answer"].tolist()
    frame = pd.read_csv(SHARED / "agiqa3k/data.csv")
    read = public("agiqa3k", "data.csv", format="agiqa3k")
    quality = read.opinions[read.opinions["dimension"] == "aesthetics"]
    assert read.summary.native == 2 * len(frame)
    assert quality["mean"].tolist() == pytest.approx((1 + 0.8 * frame["mos_quality"]).tolist())
