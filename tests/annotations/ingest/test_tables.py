"""Tables: columns, scales, encodings and defects; each native judgement is accounted for."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from zreward_core.annotations.formats import delimited
from zreward_core.annotations.ingest.settings import Source
from zreward_core.config import UserError

STARS = {"min": 1, "max": 5, "higher_is_better": True}
COLUMNS = {"prompt": "text", "image": "img", "annotator_id": "who", "score": "stars"}
STUDY = {"format": "csv", "columns": COLUMNS, "dimension": "alignment", "scale": STARS}
HEADER = "text,img,who,stars\n"


def drop(drops: Path, content: str | bytes, name: str = "study.csv") -> Path:
    path = drops / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_tsv_json_jsonl_and_parquet_are_the_same_study(read, drops: Path) -> None:
    rows = [
        {"text": "a cat, sleeping", "img": "x.png", "who": "7", "stars": 4},
        {"text": "ein grüner\nKreis", "img": "y.png", "who": "8", "stars": 2.5},
        {"text": "a cat, sleeping", "img": "x.png", "who": "8", "stars": 5},
    ]
    frame = pd.DataFrame(rows)
    frame.to_csv(drops / "s.csv", index=False)
    frame.to_csv(drops / "s.tsv", index=False, sep="\t")
    frame.to_parquet(drops / "s.parquet")
    drop(drops, json.dumps(rows), "s.json")
    drop(drops, json.dumps({f"k{n}": row for n, row in enumerate(rows)}), "object.json")
    drop(drops, "\n".join(map(json.dumps, rows)), "s.jsonl")
    kept = ["item_id", "prompt", "annotator_id", "score", "native_score", "dimension"]
    files = [drops / f"s.{ending}" for ending in ("csv", "tsv", "parquet", "json", "jsonl")]
    tables = [
        read(path, **{**STUDY, "format": path.suffix[1:]}).ratings[kept]
        for path in [*files, drops / "object.json"]
    ]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])
    assert tables[0]["score"].tolist() == [4.0, 2.5, 5.0]
    assert tables[0]["item_id"].nunique() == 2


def test_scores_are_mapped_onto_the_rubric_and_kept(read, drops: Path) -> None:
    path = drop(drops, HEADER + "a,x,1,0\na,x,2,10\na,x,3,5\na,x,4,11\n")
    scale = {"min": 0, "max": 10, "higher_is_better": True}
    result = read(path, **{**STUDY, "scale": scale})
    assert result.ratings["score"].tolist() == [1.0, 5.0, 3.0]
    assert result.ratings["native_score"].tolist() == [0.0, 10.0, 5.0]
    assert result.quarantine["reason"].tolist() == ["out_of_range"]
    result = read(path, **{**STUDY, "scale": {**scale, "higher_is_better": False}})
    assert result.ratings["score"].tolist() == [5.0, 1.0, 3.0]


def test_every_fault_has_its_reason_row_and_text(read, drops: Path) -> None:
    lines = ["a,x,1,4", "a,x,2,", "a,x,3,good", "a,x,4,77", ",,,", "a,x,5", "a,x,6,1,2", "a,x,7,1"]
    result = read(drop(drops, HEADER + "\n".join(lines)), **STUDY)
    assert result.summary.native == len(lines)
    assert result.summary.ignored == {"empty_line": 1}
    assert len(result.ratings) == 2
    found = dict(zip(result.quarantine["row_ref"], result.quarantine["reason"], strict=True))
    assert found == {
        "data/drops/study.csv#row 3": "missing_value",
        "data/drops/study.csv#row 4": "malformed_record",
        "data/drops/study.csv#row 5": "out_of_range",
        "data/drops/study.csv#row 7": "malformed_record",
        "data/drops/study.csv#row 8": "malformed_record",
    }
    assert result.ratings["row_ref"].tolist()[-1] == "data/drops/study.csv#row 9"
    raw = result.quarantine.set_index("row_ref")["raw"]
    assert json.loads(raw["data/drops/study.csv#row 4"])["stars"] == "good"
    assert raw["data/drops/study.csv#row 8"] == "a,x,6,1,2"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_encodings_are_found_out(read, drops: Path, encoding: str) -> None:
    prompt = "ein grüner Kreis" + ("" if encoding == "latin-1" else " – “rund”")
    path = drop(drops, (HEADER + f"{prompt},x,1,4\n").encode(encoding))
    result = read(path, **STUDY)
    assert result.ratings["prompt"].tolist() == [prompt]


def test_a_declared_encoding_is_used_and_an_unknown_one_refused(read, drops: Path) -> None:
    path = drop(drops, (HEADER + "grün,x,1,4\n").encode("cp437"))
    assert read(path, **STUDY, encoding="cp437").ratings["prompt"].tolist() == ["grün"]
    with pytest.raises(UserError, match="unknown encoding 'klingon'"):
        read(path, **STUDY, encoding="klingon")


def test_newlines_in_quoted_cells_stay_in_their_cell(read, drops: Path) -> None:
    result = read(drop(drops, HEADER + '"one\ntwo\n\nthree",x,1,4\na,x,2,3\n'), **STUDY)
    assert result.ratings["prompt"].tolist() == ["one\ntwo\n\nthree", "a"]
    assert result.summary.native == 2


def test_a_truncated_last_line_costs_one_row(read, drops: Path) -> None:
    result = read(drop(drops, HEADER + 'a,x,1,4\nb,y,2,5\n"c", z'), **STUDY)
    assert len(result.ratings) == 2
    assert result.quarantine["row_ref"].tolist() == ["data/drops/study.csv#row 4"]
    result = read(drop(drops, HEADER + 'a,x,1,4\nb,y,2,5\n"c is cut wi'), **STUDY)
    assert len(result.ratings) == 2
    assert result.quarantine["reason"].tolist() == ["malformed_record"]


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        (b'"never closed,x.png,r1,4', 500),
        (b"caf\xc3 broken byte,x.png,r1,4", 500),
        (b"too,few", 1),
        (b"too,many,cells,in,here", 999),
    ],
)
def test_one_bad_row_among_many_costs_one_row(
    read, drops: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes, place: int
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 4096)
    lines = [f"prompt {n} déjà,{n}.png,r{n % 3},{1 + n % 5}".encode() for n in range(1000)]
    lines[place] = bad
    result = read(drop(drops, HEADER.encode() + b"\n".join(lines) + b"\n"), **STUDY)
    assert len(result.ratings) == 999
    assert result.summary.native == 1000
    assert result.quarantine["row_ref"].tolist() == [f"data/drops/study.csv#row {place + 2}"]
    numbers = result.ratings["row_ref"].str.rpartition(" ")[2].astype(int)
    assert numbers.tolist() == [n + 2 for n in range(1000) if n != place]


def test_bad_lines_of_jsonl_cost_themselves(read, drops: Path) -> None:
    good = json.dumps({"text": "a", "img": "x", "who": 1, "stars": 4})
    path = drop(drops, f'{good}\n{{"text": \n\n[1, 2]\n{good}\n{good[:20]}', "s.jsonl")
    result = read(path, **{**STUDY, "format": "jsonl"})
    assert len(result.ratings) == 2
    assert result.summary.ignored == {"empty_line": 1}
    refs = [f"data/drops/s.jsonl#line {n}" for n in (2, 4, 6)]
    assert sorted(result.quarantine["row_ref"]) == refs


def test_nested_keys_lists_and_the_key_of_an_object(read, drops: Path) -> None:
    content = {"p1": {"meta": {"prompt": "a", "files": ["x.png"]}, "marks": {"of": [4, 2]}}}
    columns = {"prompt": "meta.prompt", "image": "meta.files.0", "scores": "marks.of"}
    settings = {**STUDY, "format": "json", "columns": {**columns, "generator": "_key"}}
    result = read(drop(drops, json.dumps(content), "s.json"), **settings).ratings
    assert result["score"].tolist() == [4.0, 2.0]
    assert result["generator"].tolist() == ["p1", "p1"]
    table = pa.Table.from_pylist([{**content["p1"], "_key": "p1"}])
    pq.write_table(table, drops / "s.parquet")
    nested = read(drops / "s.parquet", **{**settings, "format": "parquet"}).ratings
    assert nested["item_id"].tolist() == result["item_id"].tolist()


def test_numbers_too_large_for_a_float_cost_their_own_record(read, drops: Path) -> None:
    rows = [{"text": "a", "img": "x", "stars": stars} for stars in (4, 10**400)]
    columns = {"prompt": "text", "image": "img", "score": "stars"}
    path = drop(drops, json.dumps(rows), "s.json")
    result = read(path, **{**STUDY, "format": "json", "columns": columns})
    assert result.ratings["score"].tolist() == [4.0]
    assert len(result.quarantine) == 1


def test_list_cells_are_one_anonymous_vote_each(read, drops: Path) -> None:
    path = drop(drops, 'text,img,votes\na,x,"[4, 5, 9]"\nb,y,1|2\nc,z,\n')
    columns = {"prompt": "text", "image": "img", "scores": "votes"}
    result = read(path, **{**STUDY, "columns": columns})
    assert result.ratings["score"].tolist() == [4.0, 5.0, 1.0, 2.0]
    assert result.ratings["annotator_id"].isna().all()
    assert result.quarantine["reason"].tolist() == ["out_of_range", "missing_value"]
    assert result.quarantine["row_ref"].tolist()[0] == "data/drops/study.csv#row 2 vote 3"
    assert result.summary.native == 6


def test_a_column_per_rater_and_dimension(read, drops: Path) -> None:
    path = drop(drops, "img,R1_q,R2_q,R1_a\nx,4,5,2\ny,,3,1\n,,,\n")
    wide = [
        {"column": "R1_q", "annotator_id": "R1", "dimension": "aesthetics"},
        {"column": "R2_q", "annotator_id": "R2", "dimension": "aesthetics"},
        {"column": "R1_a", "annotator_id": "R1", "dimension": "alignment"},
    ]
    result = read(path, format="csv", scale=STARS, columns={"image": "img", "wide": wide})
    assert len(result.ratings) == 5
    assert result.quarantine["reason"].tolist() == ["missing_value"]
    assert result.summary.ignored == {"empty_line": 1}
    assert result.summary.native == 7
    assert result.ratings.groupby("annotator_id").size().to_dict() == {"R1": 3, "R2": 2}
    wide[0]["optional"] = True
    result = read(path, format="csv", scale=STARS, columns={"image": "img", "wide": wide})
    assert result.quarantine.empty and result.summary.ignored["empty_result"] == 1


def test_dimensions_named_in_a_column(read, drops: Path) -> None:
    path = drop(drops, "img,what,stars\nx,quality,4\nx,realism,3\nx,window,3\nx,odd,3\nx,,3\n")
    dimension = {"column": "what", "map": {"quality": "aesthetics", "window": None}}
    columns = {"image": "img", "score": "stars"}
    result = read(path, **{**STUDY, "columns": columns, "dimension": dimension})
    assert result.ratings["dimension"].tolist() == ["aesthetics", "realism"]
    assert result.ratings["prompt"].isna().all()  # a study without prompts
    assert result.summary.ignored == {"event": 1}
    assert result.quarantine["reason"].tolist() == ["unknown_dimension"] * 2


def test_histograms_means_and_deviations_are_opinions(read, drops: Path) -> None:
    path = drop(drops, "img,c1,c2,c3,total\nx,1,0,3,4\ny,0,0,0,0\nz,1,-1,0,0\n")
    columns = {"image": "img", "histogram": ["c1", "c2", "c3"], "num_ratings": "total"}
    scale = {"min": 1, "max": 3, "higher_is_better": True}
    result = read(path, format="csv", columns=columns, dimension="realism", scale=scale)
    (opinion,) = result.opinions.to_dict("records")
    assert opinion["mean"] == pytest.approx(4.0) and opinion["num_ratings"] == 4
    assert opinion["histogram"].tolist() == [0.25, 0, 0, 0, 0, 0, 0, 0, 0.75]
    assert result.ratings.empty
    assert sorted(result.quarantine["reason"]) == ["malformed_record", "missing_value"]
    path = drop(drops, "img,m,s\nx,50,25\ny,,\nz,120,1\n")
    columns = {"image": "img", "mean": "m", "std": "s", "num_ratings": 15}
    scale = {"min": 0, "max": 100, "higher_is_better": True}
    result = read(path, format="csv", columns=columns, dimension="realism", scale=scale)
    (opinion,) = result.opinions.to_dict("records")
    assert (opinion["mean"], opinion["std"], opinion["num_ratings"]) == (3.0, 1.0, 15)
    assert sorted(result.quarantine["reason"]) == ["missing_value", "out_of_range"]


def test_votes_by_map(read, drops: Path) -> None:
    path = drop(drops, "p,a,b,v\nx,1,2,leftvote\nx,1,2,bothbad_vote\nx,1,2,pass\nx,1,2,\nx,1,2,?\n")
    vote = {"column": "v", "map": {"leftvote": "a", "bothbad_vote": "both_bad", "pass": None}}
    columns = {"prompt": "p", "image_a": "a", "image_b": "b", "vote": vote}
    result = read(path, format="csv", columns=columns, dimension="aesthetics")
    assert result.comparisons["vote"].tolist() == ["a", "both_bad"]
    assert result.summary.ignored == {"skipped": 1}
    assert sorted(result.quarantine["reason"]) == ["malformed_record", "missing_value"]


def test_one_item_key_with_two_prompts_is_quarantined(read, drops: Path) -> None:
    path = drop(drops, "id,text,stars\n1,a cat,4\n1,a dog,4\n1,a cat,5\n2,a dog,3\n")
    columns = {"item": "id", "prompt": "text", "score": "stars"}
    result = read(path, **{**STUDY, "columns": columns})
    assert result.quarantine["reason"].tolist() == ["conflicting_prompt"]
    assert result.ratings["item_id"].nunique() == 2


def test_resubmissions_are_kept_and_counted(read, drops: Path) -> None:
    result = read(drop(drops, HEADER + "a,x,1,4\na,x,1,5\na,x,2,5\na,x,,5\na,x,,5\n"), **STUDY)
    assert len(result.ratings) == 5
    assert result.resubmissions == 1  # anonymous votes are not resubmissions


def test_images_outside_the_drop_are_refused(read, drops: Path) -> None:
    (drops / "images").mkdir()
    path = drop(drops, HEADER + "a,../../secret.png,1,4\na,absent.png,1,4\n")
    result = read(path, **STUDY, images=drops / "images")
    assert result.quarantine["reason"].tolist() == ["path_outside_drop"]
    assert result.ratings["image_id"].isna().tolist() == [True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": None}, "`scale` is missing"),
        ({"format": ["csv"]}, "valid string"),
        ({"dimension": None}, "`dimension` is missing"),
        ({"columns": {"prompt": "text"}}, "has no judgements: add `score`"),
        ({"columns": {**COLUMNS, "scores": "s"}}, "a row has one of"),
        ({"columns": {"vote": {"value": "a"}}}, "needs `image_a`"),
        ({"scale": {"min": 5, "max": 1, "higher_is_better": True}}, "lower than `max`"),
        ({"scale": {"min": 1, "max": 5}}, "higher_is_better"),
        ({"prompts": {"path": "../x", "key": "k", "prompt": "p", "column": "c"}}, "must be"),
    ],
)
def test_settings_that_do_not_fit(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source(**{"name": "x", "path": "data/drops/x.csv", **STUDY, **changes})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.csv", "text,img,who\na,b,c\n", "no column stars in its header .text, img, who"),
        ("s.parquet", "no parquet", "not a readable Parquet file"),
        ("s.json", "[1,", "line 1 column 4"),
        ("s.json", "7", "neither a list nor an object"),
    ],
)
def test_files_that_cannot_be_read(
    read, drops: Path, name: str, content: str, message: str
) -> None:
    path = drop(drops, content, name)
    with pytest.raises(UserError, match=message) as caught:
        read(path, **{**STUDY, "format": path.suffix[1:]})
    assert str(path) in str(caught.value)


def test_batches_do_not_change_the_result(
    read, drops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    lines = [f"p{n % 7},{n % 50}.png,r{n % 4},{rng.integers(0, 7)}" for n in range(3000)]
    path = drop(drops, HEADER + "\n".join(lines))
    whole = read(path, **STUDY)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 5000)
    parts = read(path, **STUDY)
    pd.testing.assert_frame_equal(parts.ratings, whole.ratings)
    assert sorted(parts.quarantine["row_ref"]) == sorted(whole.quarantine["row_ref"])
    assert parts.resubmissions == whole.resubmissions > 0
