"""Property tests: the accounting counts what a second, simpler reader of the raw file counts."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.annotations.sources import Read
from zreward_core.annotations.formats import delimited
from zreward_core.annotations.ingest.settings import Source

COLUMNS = {"prompt": "text", "image": "img", "annotator_id": "who", "score": "stars"}
SCALE = {"min": 1, "max": 5, "higher_is_better": True}
HEADER = ["text", "img", "who", "stars"]
SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""Characters that end a line for `str.splitlines`, but not in a CSV file."""
many = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def counted(drops: Path, default_rubric, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 512)

    def read(content: str, word: str = "csv") -> Read:
        path = drops / f"study.{word}"
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        source = Source(
            name="s", path=path, format=word, columns=COLUMNS, dimension="alignment", scale=SCALE
        )
        result = Read(source, default_rubric, [path])
        outcomes = result.summary
        rows = len(result.ratings) + len(result.quarantine) + sum(outcomes.ignored.values())
        assert rows == outcomes.native
        return result

    return read


cells = st.text(alphabet='ab ,;"\n\ré\U0001f600' + SEPARATORS, max_size=12)
scores = st.sampled_from(["1", "2.5", "5", "", "x", "9"])
records = st.lists(st.tuples(cells, cells, cells, scores), max_size=12)


@many
@given(records, st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]))
@example([("a\u2028b", "x", "r", "5"), ('say "no"\n,,,\n', "y", "r", "1")], ("\n", csv.QUOTE_ALL))
def test_well_formed_files_are_read_as_the_csv_module_reads_them(
    counted, rows: list, style: tuple[str, int]
) -> None:
    # One image per row: a record without a prompt would take the prompt of its image.
    rows = [(prompt, f"{n}{image}", *rest) for n, (prompt, image, *rest) in enumerate(rows)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=style[0], quoting=style[1])
    writer.writerows([HEADER, *rows])
    expected = list(csv.reader(io.StringIO(text.getvalue(), newline="")))[1:]
    result = counted(text.getvalue())
    assert result.summary.native == len(expected)
    prompts = [row[0] if row[0].strip() else "" for row in expected if row[3] in ("1", "2.5", "5")]
    assert sorted(result.ratings["prompt"].fillna("")) == sorted(prompts)


stray = st.text(alphabet='ab "\u2028\x85', max_size=8).map(lambda text: text.rstrip('"'))
"""Cells without delimiters and line ends, where a quote is literal and does not close a cell."""


@many
@given(st.lists(st.tuples(stray, stray, stray, scores), min_size=1, max_size=12))
@example([('"open', "x", "r", "1"), ("b", "x", "r", "2"), ('"open', "x", "r", "3")])
@example([('5" pipe', '"x', "r", "1"), ("b", "y", "r", "2"), ('6" pipe', 'z"', "r", "3")])
def test_quotes_that_enclose_nothing_hide_no_row(counted, rows: list) -> None:
    lines = [",".join(row) for row in rows]
    result = counted("\n".join([",".join(HEADER), *lines]) + "\n")
    assert result.summary.native == len(lines)


values = st.one_of(
    st.none(), st.integers(-9, 2**70), st.floats(), st.text(max_size=5), st.booleans()
)
objects = st.dictionaries(st.sampled_from([*HEADER, "other"]), values, max_size=5)


@many
@given(
    st.lists(st.one_of(objects, values, st.lists(values, max_size=3)), max_size=10), st.booleans()
)
def test_each_line_of_json_counts_once(counted, content: list, cut: bool) -> None:
    lines = [json.dumps(one) for one in content]
    text = "\n".join(lines)
    text = text[: len(text) * 3 // 4] if cut else text
    assert counted(text, "jsonl").summary.native == len(io.StringIO(text).readlines())


@many
@given(st.lists(objects | st.lists(values, min_size=1, max_size=3), max_size=10))
def test_each_record_of_json_counts_once(counted, content: list) -> None:
    first = content[0] if content else None
    if isinstance(first, list) and all(isinstance(one, str) for one in first):
        return  # names of columns
    assert counted(json.dumps(content), "json").summary.native == len(content)
