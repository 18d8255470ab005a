"""File layouts: workbooks, delimiters, tables by columns, answers and rankings in a record."""

import csv
import io
import json
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from zreward_core.annotations.ingest.reading import source_files
from zreward_core.annotations.ingest.settings import Source
from zreward_core.config import UserError

STARS = {"min": 1, "max": 5, "higher_is_better": True}
COLUMNS = {"prompt": "text", "image": "img", "annotator_id": "who", "score": "stars"}
STUDY = {"columns": COLUMNS, "dimension": "alignment", "scale": STARS}
ROWS = [("a cat", "x.png", 7, 4), ("a dog", "y.png", 8, 2.5)]


def write(drops: Path, text: str, name: str = "study.csv") -> Path:
    (drops / name).write_text(text, encoding="utf-8")
    return drops / name


@pytest.fixture
def workbook(drops: Path) -> Path:
    book = openpyxl.Workbook()
    book.active.title = "Notes"
    book.active.append(["for internal use"])
    sheet = book.create_sheet("Ratings")
    sheet.append(["Exported in May"])
    sheet.append([])
    sheet.append(list(COLUMNS.values()))
    for row in [*ROWS, (None, None, None, None), ("a cat", "x.png", 8, "4,5"), ("b", "x.png")]:
        sheet.append(row)
    book.save(drops / "study.xlsx")
    return drops / "study.xlsx"


def test_a_sheet_of_a_workbook(read, workbook: Path) -> None:
    for sheet in ("Ratings", 2):
        result = read(workbook, format="excel", sheet=sheet, header_row=3, **STUDY)
        assert result.ratings["native_score"].tolist() == [4.0, 2.5, 4.5]
        assert result.ratings["annotator_id"].tolist() == ["7", "8", "8"]
        assert result.summary.ignored == {"empty_line": 1}
        assert result.quarantine["row_ref"].tolist() == ["data/drops/study.xlsx#row 8"]
        assert result.quarantine["reason"].tolist() == ["missing_value"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "excel", "sheet": "May"}, "no sheet 'May' .it has Notes, Ratings"),
        ({"format": "excel"}, "no column text, img, who, stars in its header .for internal use"),
        ({"format": "excel", "sheet": 2, "header_row": 2}, "row 2 of the sheet 'Ratings' has no"),
        ({"format": "csv"}, "an Excel workbook; its format is `excel`"),
    ],
)
def test_a_workbook_that_cannot_be_read(read, workbook: Path, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(workbook, **settings, **STUDY)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("word", ["csv", "tsv"])
def test_delimiters_are_found(read, drops: Path, delimiter: str, word: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([COLUMNS.values(), *ROWS])
    path = write(drops, text.getvalue())
    assert read(path, format=word, **STUDY).ratings["native_score"].tolist() == [4.0, 2.5]


def test_declared_and_announced_delimiters_and_lines_above_the_header(read, drops: Path) -> None:
    lines = ["~".join(map(str, row)) for row in [COLUMNS.values(), *ROWS]]
    path = write(drops, "\n".join(["Survey of May, 2024", "", *lines, "a~b"]))
    result = read(path, format="csv", delimiter="~", header_row=3, **STUDY)
    assert result.ratings["native_score"].tolist() == [4.0, 2.5]
    assert result.ratings["row_ref"].tolist() == [f"{path}#row {one}" for one in (4, 5)]
    assert result.quarantine["row_ref"].tolist() == [f"{path}#row 6"]
    path = write(drops, "\n".join(['"sep=~"', *lines]))
    assert read(path, format="csv", **STUDY).ratings["native_score"].tolist() == [4.0, 2.5]


def test_names_of_files_with_brackets_and_capitals(drops: Path) -> None:
    settings = {"name": "s", "format": "csv", **STUDY}
    for name in ("study [final].csv", "B.CSV", "c.csv", "._c.csv", "d.txt"):
        write(drops, "", name)
    assert source_files(Source(path=drops / "study [final].csv", **settings)) == [
        drops / "study [final].csv"
    ]
    found = source_files(Source(path=drops, **settings))
    assert [path.name for path in found] == ["B.CSV", "c.csv", "study [final].csv"]
    (drops / "set [1]").mkdir()
    path = write(drops, "", "set [1]/x.csv")
    assert source_files(Source(path=drops / "set [1]/*.csv", **settings)) == [path]
    with pytest.raises(UserError, match="is a file, so `files`"):
        source_files(Source(path=drops / "c.csv", files="*.csv", **settings))


@pytest.mark.parametrize("orient", ["columns", "split", "records", "index"])
def test_json_of_pandas(read, drops: Path, orient: str) -> None:
    frame = pd.DataFrame(ROWS, columns=list(COLUMNS.values()))
    path = write(drops, frame.to_json(orient=orient), "s.json")
    result = read(path, format="json", **STUDY)
    assert result.ratings["native_score"].tolist() == [4.0, 2.5]
    assert result.ratings["annotator_id"].tolist() == ["7", "8"]


def test_json_by_columns_of_lists_and_as_rows_below_a_header(read, drops: Path) -> None:
    content = {name: [row[place] for row in ROWS] for place, name in enumerate(COLUMNS.values())}
    path = write(drops, json.dumps({**content, "version": 2}), "s.json")
    assert read(path, format="json", **STUDY).ratings["native_score"].tolist() == [4.0, 2.5]
    path = write(drops, json.dumps([list(COLUMNS.values()), *ROWS, ["cut"]]), "s.json")
    result = read(path, format="json", **STUDY)
    assert result.ratings["native_score"].tolist() == [4.0, 2.5] and len(result.quarantine) == 1
    path = write(drops, json.dumps({**content, "who": [7]}), "s.json")
    with pytest.raises(UserError, match="columns of different lengths"):
        read(path, format="json", **STUDY)


def test_keys_that_occur_twice(read, drops: Path) -> None:
    twice = '{"text": "a", "img": "x", "who": 1, "stars": 4, "stars": 1}'
    with pytest.raises(UserError, match="the key 'stars' occurs twice"):
        read(write(drops, f"[{twice}]", "s.json"), format="json", **STUDY)
    result = read(write(drops, twice, "s.jsonl"), format="jsonl", **STUDY)
    assert result.ratings.empty and result.quarantine["raw"].tolist() == [twice]


def test_results_of_mechanical_turk(read, drops: Path) -> None:
    answers = [{"real": {"1": False, "4": True}, "fit": "5", "note": "a, b"}]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["WorkerId", "Input.image_url", "Answer.taskAnswers"])
    writer.writerow(["W1", "https://x.org/1.png", json.dumps(answers)])
    writer.writerow(["W2", "https://x.org/1.png", json.dumps([{"fit": "2"}])])
    real = {"column": "Answer.taskAnswers.0.real", "pattern": r'^.*"(\d)": true.*$', "to": r"\1"}
    wide = [
        {"column": "Answer.taskAnswers.0.fit", "dimension": "alignment"},
        {"column": real, "dimension": "realism", "optional": True},
    ]
    columns = {"image": "Input.image_url", "annotator_id": "WorkerId", "wide": wide}
    result = read(write(drops, table.getvalue()), format="csv", columns=columns, scale=STARS)
    assert result.ratings["native_score"].tolist() == [5.0, 2.0, 4.0]
    assert result.summary.ignored == {"empty_result": 1}


def test_several_images_in_the_answer_of_one_assignment(read, drops: Path) -> None:
    answers = [{"img": f"{one}.png", "stars": one} for one in (1, 2)]
    frame = pd.DataFrame({"who": ["W1", "W2", "W3"], "answer": [json.dumps(answers), "oh", "[]"]})
    frame.to_csv(drops / "study.csv", index=False)
    columns = {"image": "answer.img", "score": "answer.stars", "annotator_id": "who"}
    settings = {**STUDY, "columns": columns, "answers": {"path": "answer.*"}}
    result = read(drops / "study.csv", format="csv", **settings)
    assert result.ratings["native_score"].tolist() == [1.0, 2.0]
    assert result.quarantine["reason"].tolist() == ["malformed_record"]
    assert result.summary.ignored == {"empty_result": 1} and result.summary.native == 4


def test_argilla_responses_by_user_with_several_questions(read, drops: Path) -> None:
    responses = [
        {"user_id": "u1", "status": "submitted", "values": {"fit": {"value": 4}}},
        {"user_id": "u2", "status": "discarded", "values": None},
        {"user_id": "u3", "status": "submitted", "values": {"fit": {"value": 2}}},
    ]
    records = [{"fields": {"prompt": "a"}, "responses": responses}, {"responses": []}]
    wide = [{"column": "answer.values.fit.value", "dimension": "alignment"}]
    result = read(
        write(drops, json.dumps(records), "s.json"),
        format="json",
        answers={"path": "responses.*"},
        only={"column": "answer.status", "words": ["submitted"]},
        columns={"prompt": "fields.prompt", "annotator_id": "answer.user_id", "wide": wide},
        scale=STARS,
    )
    assert result.ratings["annotator_id"].tolist() == ["u1", "u3"]
    assert result.ratings["native_score"].tolist() == [4.0, 2.0]
    assert result.summary.ignored == {"skipped": 1, "empty_result": 1}


@pytest.mark.parametrize("large", [False, True])
def test_lists_of_scores_beside_the_list_of_their_raters(read, drops: Path, large: bool) -> None:
    kind = pa.large_list if large else pa.list_
    table = pa.table(
        {
            "img": ["x", "y", "z"],
            "fit.responses": pa.array([[4, 5], [3], [1, 2]], kind(pa.int64())),
            "fit.responses.users": pa.array([["u1", "u2"], ["u1"], ["u1"]], kind(pa.string())),
        }
    )
    pq.write_table(table, drops / "s.parquet")
    slot = {"scores": "fit.responses", "annotator_ids": "fit.responses.users"}
    columns = {"image": "img", "wide": [{**slot, "dimension": "alignment"}]}
    result = read(drops / "s.parquet", format="parquet", columns=columns, scale=STARS)
    assert result.ratings["annotator_id"].tolist() == ["u1", "u2", "u1"]
    assert result.ratings["native_score"].tolist() == [4.0, 5.0, 3.0]
    assert result.quarantine["reason"].tolist() == ["malformed_record"] * 2


def test_votes_of_a_survey_one_column_each(read, drops: Path) -> None:
    path = write(drops, "Name,Pair 1,Pair 2\nAna,left,\nBo,right,same\n")
    image = {"column": "answer_1", "pattern": "^"}
    vote = {"column": "answer", "map": {"left": "a", "right": "b", "same": "tie"}}
    columns = {"annotator_id": "Name", "prompt": {"value": "a cat"}, "vote": vote}
    columns |= {"image_a": {**image, "to": "a"}, "image_b": {**image, "to": "b"}}
    answers = {"columns": r"Pair (\d+)"}
    result = read(path, format="csv", columns=columns, dimension="realism", answers=answers)
    assert result.comparisons["vote"].tolist() == ["a", "b", "tie"]
    assert result.comparisons["annotator_id"].tolist() == ["Ana", "Bo", "Bo"]
    assert result.quarantine["reason"].tolist() == ["missing_value"]
    answers["optional"] = True
    result = read(path, format="csv", columns=columns, dimension="realism", answers=answers)
    assert result.quarantine.empty and result.summary.ignored == {"empty_result": 1}
    with pytest.raises(UserError, match="no column that matches 'Paar'"):
        read(path, format="csv", columns=columns, dimension="realism", answers={"columns": "Paar"})


def comparisons(result) -> list[tuple[str, str]]:
    return list(zip(result.comparisons["row_ref"].str[-1], result.comparisons["vote"], strict=True))


def test_rankings(read, drops: Path) -> None:
    rows = [
        {"text": "a", "order": ["x", "y", "z"], "rank": [2, 1, 2]},
        {"text": "b", "order": ["x", "y"], "rank": [1, None]},
        {"text": "c", "order": ["x", "y"], "rank": [1]},
    ]
    path = write(drops, json.dumps(rows), "s.json")
    columns = {"prompt": "text", "ranking": {"images": "order"}}
    settings = {"format": "json", "dimension": "realism"}
    result = read(path, columns=columns, **settings)
    assert comparisons(result) == [("1", "a")] * 3 + [("2", "a"), ("3", "a")]
    columns["ranking"] = {"images": "order", "ranks": "rank"}
    result = read(path, columns=columns, **settings)
    assert comparisons(result) == [("1", "b"), ("1", "tie"), ("1", "a")]
    assert result.quarantine["reason"].tolist() == ["malformed_record"] * 2
    assert result.summary.native == 5


def test_a_column_of_ranks_per_generator(read, drops: Path) -> None:
    path = write(drops, "text,sdxl,flux\na,1,2\nb,2,1\n,,\nc,1,\n")
    ranking = {
        "generators": [{"value": "sdxl"}, {"value": "flux"}],
        "ranks": ["sdxl", "flux"],
    }
    columns = {"prompt": "text", "ranking": ranking}
    result = read(path, format="csv", columns=columns, dimension="realism")
    assert result.comparisons["vote"].tolist() == ["a", "b"]
    assert result.summary.ignored == {"empty_line": 1} and len(result.quarantine) == 1
    ranking["higher_is_better"] = True
    result = read(path, format="csv", columns=columns, dimension="realism")
    assert result.comparisons["vote"].tolist() == ["b", "a"]


def test_the_name_of_the_file_and_constants(read, drops: Path) -> None:
    path = write(drops, "img,stars\nx,4\n,\n", "round 2 - anna.csv")
    columns = {
        "image": "img",
        "score": "stars",
        "annotator_id": {"file": r"- (\w+)\.csv$"},
        "generator": {"value": "sdxl"},
    }
    result = read(path, format="csv", **{**STUDY, "columns": columns})
    assert result.ratings[["annotator_id", "generator"]].values.tolist() == [["anna", "sdxl"]]
    assert result.summary.ignored == {"empty_line": 1}
    for pattern, name in ((r"(.*)\.csv", "round 2 - anna"), ("data/([^/]+)/", "drops")):
        columns["annotator_id"] = {"file": pattern}
        result = read(path, format="csv", **{**STUDY, "columns": columns})
        assert result.ratings["annotator_id"].tolist() == [name]
    columns["annotator_id"] = {"file": "rater_(.*)"}
    with pytest.raises(UserError, match="does not match `file: rater_"):
        read(path, format="csv", **{**STUDY, "columns": columns})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "parquet", "encoding": "utf-8"}, "`encoding` is not read by the format parq"),
        ({"format": "json", "delimiter": ";"}, "`delimiter` is not read by the format json"),
        ({"format": "csv", "records": "a"}, "`records` is not read by the format csv"),
        ({"format": "csv", "sheet": 2}, "`sheet` is not read by the format csv .it is by excel"),
        ({"format": "csv", "delimiter": ";;"}, "one character"),
        ({"columns": {**COLUMNS, "std": "sd"}}, "`std` is read only with `mean`"),
        ({"columns": {**COLUMNS, "num_ratings": 3}}, "`num_ratings` is read only with"),
        ({"columns": {**COLUMNS, "image_a": "x"}}, "`image_a` is read only with `vote`"),
        ({"columns": {**COLUMNS, "score": {"column": "s", "separator": "|"}}}, "not a list"),
        ({"columns": {**COLUMNS, "score": {"column": "s", "pattern": "("}}}, "not valid RE2"),
        ({"columns": {**COLUMNS, "score": {"column": "s", "to": "1"}}}, "add `pattern`"),
        ({"columns": {**COLUMNS, "score": {"pattern": "a"}}}, "one of `column`, `file` or `val"),
        ({"columns": {"mean": "m", "annotator_id": "w"}}, "`annotator_id` not read with an opi"),
        ({"columns": {"ranking": {"images": "x"}, "image": "y"}}, "image not read with a `rank"),
        ({"answers": {"path": "responses"}}, "`path` needs a `.` that selects"),
        ({"answers": {"path": "r.*", "columns": "q"}}, "either `path` or `columns`"),
        ({"format": "label_studio", "answers": {"path": "r.*"}}, "not read by the format label"),
    ],
)
def test_settings_that_are_not_read_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source(**{"name": "x", "format": "csv", "path": "data/drops/x.csv", **STUDY, **changes})


def test_names_of_columns_with_several_lines(read, drops: Path) -> None:
    text = 'Name,"Picture 1\nreal?","Picture 2\nreal?"\nAna,4,5\nBo,3\n'
    columns = {"annotator_id": "Name", "image": "answer_1", "score": "answer"}
    settings = {"columns": columns, "dimension": "realism", "scale": STARS}
    answers = {"columns": r"Picture (\d).*"}
    result = read(write(drops, text), format="csv", answers=answers, **settings)
    assert result.ratings["native_score"].tolist() == [4.0, 5.0]
    assert result.quarantine["row_ref"].tolist() == ["data/drops/study.csv#row 3"]


def test_columns_that_no_record_has_are_named(
    read, drops: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(drops, json.dumps([{"img": "x", "stars": 4, "who": None}]), "s.json")
    result = read(path, format="json", **STUDY)
    assert len(result.ratings) == 1
    assert "no record has a value at text, who; correct `columns`" in caplog.text


def test_prompts_of_a_second_file_with_semicolons_and_float_keys(read, drops: Path) -> None:
    write(drops, 'key;prompt\n1.0;"a cat; asleep"\n2;a dog\n', "prompts.csv")
    path = write(drops, "id,stars\n1,4\n2.0,5\n3,5\n")
    prompts = {"path": "prompts.csv", "key": "key", "prompt": "prompt", "column": "id"}
    columns = {"item": "id", "score": "stars"}
    settings = {"columns": columns, "dimension": "realism", "scale": STARS}
    result = read(path, format="csv", prompts=prompts, **settings)
    assert result.ratings["prompt"].tolist()[:2] == ["a cat; asleep", "a dog"]
    write(drops, "key,prompt\n1,a\n1,b\n", "prompts.csv")
    with pytest.raises(UserError, match=r"prompts.csv#row 3: '1' has two prompts"):
        read(path, format="csv", prompts=prompts, **settings)
    write(drops, "key,prompt\n1\n", "prompts.csv")
    with pytest.raises(UserError, match=r"prompts.csv#row 2: not a row with a cell for each"):
        read(path, format="csv", prompts=prompts, **settings)


@pytest.mark.parametrize("text", ["", "text,img,who,stars", "text,img,who,stars\n"])
def test_tables_without_rows_hold_no_judgement(read, drops: Path, text: str) -> None:
    assert read(write(drops, text), format="csv", **STUDY).summary.native == 0


def test_one_record_alone_in_a_json_file(read, drops: Path) -> None:
    path = write(drops, json.dumps(dict(zip(COLUMNS.values(), ROWS[0], strict=True))), "s.json")
    assert read(path, format="json", **STUDY).ratings["native_score"].tolist() == [4.0]


def test_quotes_left_open_in_utf_16_and_in_rows_that_follow_each_other(read, drops: Path) -> None:
    lines = ["text,img,who,stars", "a,0,r,1", '"open,1,r,2', '"open,2,r,3', "b,3,r,4", "c,4,r,5"]
    (drops / "study.csv").write_bytes("\n".join(lines).encode("utf-16"))
    result = read(drops / "study.csv", format="csv", **STUDY)
    assert result.summary.native == 5
    assert result.ratings["prompt"].tolist() == ["a", "b", "c"]
    assert [ref[-1] for ref in result.quarantine["row_ref"]] == ["3", "4"]
    assert result.summary.repaired == 0


def test_a_quote_left_open_that_another_prompt_closes_hides_no_row(read, drops: Path) -> None:
    lines = ["text,img,who,stars", "a,0,r,1", '"open,1,r,2', "b,2,r,3", 'ends",3,r,4', "c,4,r,5"]
    result = read(write(drops, "\n".join(lines)), format="csv", **STUDY)
    assert result.summary.native == 5
    assert result.ratings["prompt"].tolist() == ["a", "b", 'ends"', "c"]
    prompt = "one, two,\nthree\nfour, five, six, seven"  # lines inside a quoted cell are not rows
    pd.DataFrame([(prompt, "x", "r", 4)], columns=list(COLUMNS.values())).to_csv(
        drops / "s.csv", index=False
    )
    assert read(drops / "s.csv", format="csv", **STUDY).ratings["prompt"].tolist() == [prompt]
