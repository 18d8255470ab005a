"""The public sets on their real files: counts, known defects, agreement."""

import json

import pandas as pd
import pytest

from zreward_core.annotations.quality.agreement import ordinal_alpha


def alpha(ratings: pd.DataFrame, dimension: str) -> float:
    part = ratings[ratings["dimension"] == dimension]
    return ordinal_alpha(pd.factorize(part["item_id"])[0], part["native_score"].to_numpy())


@pytest.fixture
def avt(public):
    images = "data/drops/avt_ai_images/images_512"
    return public("avt_ai_images", "**/_ratings.csv", format="avt_ai_images", images=images)


def test_avt_rating_type_mixes_ratings_with_events(avt) -> None:
    assert len(avt.ratings) == 3385 * 3
    assert avt.summary.ignored == {"event": 20460}
    assert avt.summary.native == 30615
    assert avt.quarantine.empty


def test_avt_stimuli_prefixes_lead_to_the_images_and_one_is_missing(avt) -> None:
    items = avt.ratings.drop_duplicates("item_id")
    assert len(items) == 146
    assert items["image_id"].notna().sum() == 145
    (missing,) = items[items["image_id"].isna()].itertuples()
    assert missing.generator == "midjourney"
    assert avt.summary.without_image == (avt.ratings["item_id"] == missing.item_id).sum() == 72
    assert items["generator"].value_counts()["own"] == 11


def test_avt_has_118_registered_users_and_27_raters(avt) -> None:
    assert avt.ratings["annotator_id"].nunique() == 27


def test_avt_submissions_sent_twice_are_kept_and_counted(avt) -> None:
    assert avt.resubmissions == 9


@pytest.mark.parametrize(
    ("dimension", "expected"), [("aesthetics", 0.299), ("realism", 0.457), ("alignment", 0.519)]
)
def test_avt_agreement(avt, dimension: str, expected: float) -> None:
    assert alpha(avt.ratings, dimension) == pytest.approx(expected, abs=0.005)


def test_genai_bench_41_and_33_are_out_of_range(public) -> None:
    read = public("genai_bench", "*.json", format="genai_bench")
    assert read.summary.native == 527 * 6 * 3
    assert sorted(read.quarantine["reason"]) == ["out_of_range"] * 2
    raw = [json.loads(one) for one in read.quarantine["raw"]]
    assert [(one["model"], max(one["scores"])) for one in raw] == [
        ("DALLE_3", 41),
        ("DeepFloyd_I_XL_v1", 33),
    ]
    assert read.quarantine["row_ref"].str.contains("genai_image.json#record ").all()
    assert len(read.ratings) == 527 * 6 * 3 - 2
    assert read.ratings["annotator_id"].isna().all()
    assert read.ratings["item_id"].nunique() == 527 * 6
    assert alpha(read.ratings, "alignment") == pytest.approx(0.715, abs=0.005)


@pytest.fixture
def geneval(public):
    return public("geneval_mturk", "annotations/*.csv", format="geneval_mturk")


def test_geneval_rows_broken_by_newlines_are_put_together(geneval) -> None:
    assert geneval.summary.repaired == 4
    assert geneval.quarantine.empty
    quality = geneval.ratings[geneval.ratings["dimension"] == "aesthetics"]
    assert quality["generator"].value_counts().to_dict() == {
        "clip": 2000,
        "if-xl": 2000,
        "sdv2": 2000,
    }
    torn = quality[quality["row_ref"].str.contains("if-xl.csv#row 423 ")]
    assert torn["native_score"].tolist() == [4.0]


def test_geneval_list_cells_and_objects_that_are_not_there(geneval) -> None:
    # black|white are colours, not judgements; a second object is asked about only if there is one.
    assert geneval.summary.native == 6000 * 3
    assert geneval.summary.ignored["empty_result"] == 6000 * 3 - len(geneval.ratings)
    assert geneval.ratings["item_id"].nunique() == 1200


@pytest.mark.parametrize("generator", ["clip", "if-xl", "sdv2"])
def test_geneval_agreement(geneval, generator: str) -> None:
    ratings = geneval.ratings[geneval.ratings["generator"] == generator]
    assert 0.305 <= alpha(ratings, "aesthetics") <= 0.465


def test_imagenhub_cells_with_and_without_a_space(public) -> None:
    read = public("imagenhub", "*.tsv", format="imagenhub")
    assert read.summary.native == len(read.ratings) == 197 * 7 * 3 * 2
    assert sorted(read.ratings["annotator_id"].unique()) == ["1", "2", "3"]
    assert set(read.ratings["native_score"]) == {0.0, 0.5, 1.0}
    assert set(read.ratings["score"]) == {1.0, 3.0, 5.0}
    assert alpha(read.ratings, "alignment") == pytest.approx(0.601, abs=0.005)
    assert alpha(read.ratings, "realism") == pytest.approx(0.442, abs=0.005)


def test_dsg_likert_with_prompts_of_a_second_file(public) -> None:
    read = public("dsg", "*likert*.csv", format="dsg_likert")
    assert read.summary.native == len(read.ratings) == 3995
    assert read.ratings["annotator_id"].nunique() == 5
    assert read.ratings["item_id"].nunique() == 160 * 5
    assert read.ratings["prompt"].nunique() == 160
    assert alpha(read.ratings, "alignment") == pytest.approx(0.685, abs=0.005)


def test_agiqa_gives_opinions_and_no_votes(public) -> None:
    read = public("agiqa3k", "data.csv", format="agiqa3k")
    assert read.ratings.empty
    assert len(read.opinions) == read.summary.native == 2982 * 2
    assert read.opinions["mean"].between(1, 5).all()
    assert read.opinions["std"].notna().all() and read.opinions["num_ratings"].isna().all()
    assert read.summary.without_image == 2982 * 2
