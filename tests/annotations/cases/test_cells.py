"""Inputs based on public bug reports: cell values, file layouts, accounting, types.

Each folder next to this file is copied over an empty project; ``overlay*.yaml`` has the user's
settings.
"""

import logging
import shutil
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.annotations.sources import Read
from zreward_core.annotations.ingest.reading import source_files
from zreward_core.annotations.ingest.settings import Source
from zreward_core.config import UserError, read_yaml

HERE = Path(__file__).parent
STARS = {"min": 1, "max": 5, "higher_is_better": True}


@pytest.fixture
def case(drops: Path, default_rubric):
    def read(name: str, overlay: str = "overlay.yaml") -> Read:
        shutil.copytree(HERE / name, Path(), dirs_exist_ok=True)
        (settings,) = read_yaml(Path(overlay))["ingest"]["sources"]
        source = Source(**settings)
        return Read(source, default_rubric, source_files(source))

    return read


def test_07_json_in_cells(case) -> None:
    read = case("07-ls-csv-json-cells")
    scores = read.ratings.groupby("dimension")["native_score"].apply(list)
    assert scores["alignment"] == [4.0, 3.0, 4.0, 4.0]
    assert scores["realism"] == [4.0, 2.0, 4.0, 2.0]
    assert read.quarantine.empty


def test_09_a_list_of_answers_with_their_users(case) -> None:
    read = case("09-argilla-multi-user")
    assert read.summary.native == len(read.ratings) == 12
    assert read.ratings.groupby("prompt").size().tolist() == [2, 4, 2, 4]
    one = read.ratings[read.ratings["prompt"] == "a bridge 1"]
    found = set(zip(one["dimension"], one["annotator_id"], one["native_score"], strict=True))
    assert found == {
        ("alignment", "u-a", 4.0),
        ("alignment", "u-b", 5.0),
        ("realism", "u-b", 2.0),
        ("realism", "u-a", 3.0),
    }


def test_10_identifiers_of_64_bits(case) -> None:
    read = case("10-json-64bit-ids")
    ids = {str(1058263544937218100 + number) for number in range(6)}
    assert len(read.ratings) == 12 and set(read.ratings["annotator_id"]) == ids


@pytest.mark.parametrize("overlay", ["overlay.yaml", "overlay2.yaml", "overlay3.yaml"])
def test_16_semicolons_and_decimal_commas(case, overlay: str) -> None:
    read = case("16-excel-semicolon-decimal-comma", overlay)
    assert read.ratings["native_score"].tolist() == [4.5, 3.0, 2.5, 5.0]
    assert read.ratings["annotator_id"].unique().tolist() == ["Jürgen"]
    assert read.ratings["prompt"][0] == "ein Haus; groß 0"


SCORES = [4.5, 3.0, 2.5, 5.0]


@pytest.mark.parametrize(
    "scores",
    [
        pa.array([Decimal(str(one)) for one in SCORES], pa.decimal128(3, 1)),
        pa.array(SCORES).dictionary_encode(),
        pa.array([[one, 1.0] for one in SCORES], pa.large_list(pa.float64())),
        pa.array([[one, 1.0] for one in SCORES], pa.list_(pa.float64(), 2)),
        pa.array([[str(one)] for one in SCORES], pa.list_view(pa.string_view())),
        pa.array([str(one) for one in SCORES], pa.large_string()),
        pa.array([str(one) for one in SCORES], pa.string_view()),
        pa.array([str(one) for one in SCORES], pa.large_string()).dictionary_encode(),
        pa.array(SCORES, pa.float16()),
        pa.array([str(one).encode() for one in SCORES], pa.large_binary()),
    ],
    ids=lambda scores: str(scores.type),
)
def test_18_types_of_parquet(read, drops: Path, scores: pa.Array) -> None:
    nested = pa.types.is_nested(scores.type)
    raters = pa.array([Decimal(2**63 + one) for one in range(4)], pa.decimal128(20, 0))
    images = pa.array([f"{one}.png" for one in range(4)], pa.string_view())
    pq.write_table(pa.table({"img": images, "who": raters, "s": scores}), drops / "s.parquet")
    columns = {"image": "img", "annotator_id": "who", "score": "s.0" if nested else "s"}
    result = read(
        drops / "s.parquet", format="parquet", columns=columns, dimension="realism", scale=STARS
    )
    assert result.ratings["native_score"].tolist() == SCORES
    assert result.ratings["annotator_id"].tolist() == [str(2**63 + one) for one in range(4)]


def test_18_booleans_are_zero_and_one(read, drops: Path) -> None:
    pd.DataFrame({"img": ["x", "y"], "s": [True, False]}).to_parquet(drops / "s.parquet")
    scale = {"min": 0, "max": 1, "higher_is_better": True}
    columns = {"image": "img", "score": "s"}
    settings = {"columns": columns, "dimension": "realism", "scale": scale}
    result = read(drops / "s.parquet", format="parquet", **settings)
    assert result.ratings["native_score"].tolist() == [1.0, 0.0]


def test_24_words_that_yaml_1_1_reads_as_booleans(case) -> None:
    read = case("24-yaml-yes-no")
    assert read.ratings["prompt"].tolist() == ["a bell 1", "a bell 3", "a bell 5"]
    assert read.summary.ignored == {"skipped": 3}
    assert case("24-yaml-yes-no", "overlay2.yaml").comparisons["vote"].tolist() == list("bababa")


def test_31_decimal_commas_in_list_cells(case) -> None:
    read = case("31-list-cell-decimal-comma")
    assert read.ratings["native_score"].tolist() == [4.5, 3.5, 2.5, 4.5]


def test_32_a_row_per_participant_and_a_column_per_image_and_question(case) -> None:
    read = case("32-google-forms-survey")
    assert read.summary.native == len(read.ratings) == 12
    table = read.ratings.groupby(["item_id", "dimension"])["native_score"].agg(["first", "size"])
    assert sorted(table["first"]) == [1.0, 2.0, 4.0, 5.0] and set(table["size"]) == {3}
    assert set(read.ratings["annotator_id"]) == {"Ana", "Bo", "Chi"}


def test_38_one_file_per_rater(case) -> None:
    read = case("38-one-file-per-rater")
    assert len(read.ratings) == 60 and read.ratings["item_id"].nunique() == 30
    assert read.ratings.groupby("annotator_id").size().to_dict() == {"anna": 30, "ben": 30}


@pytest.mark.parametrize(
    ("overlay", "scores"), [("overlay.yaml", [1, 2, 3, 5]), ("overlay2.yaml", [4, 2])]
)
def test_40_patterns_of_scores(case, overlay: str, scores: list[float]) -> None:
    assert case("40-score-pattern-ignored", overlay).ratings["native_score"].tolist() == scores


def test_46_two_quotes_left_open(case) -> None:
    read = case("46-two-open-quotes")
    assert read.summary.native == 12 and len(read.ratings) == 10
    assert read.quarantine["row_ref"].tolist() == [f"data/drops/v.csv#row {one}" for one in (4, 9)]


def test_47_a_column_that_occurs_twice(case) -> None:
    with pytest.raises(UserError, match="the column score occurs twice"):
        case("47-duplicate-header")


def test_50_deviations_on_another_scale(case, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        case("50-std-on-another-scale")
    assert "deviations of alignment are 1.3% of the scale" in caplog.text
    caplog.clear()
    read = case("50-std-on-another-scale", "declared.yaml")
    assert not caplog.text
    assert read.opinions["std"][0] == pytest.approx(1.0)  # of 1 to 5, the rubric's scale
