"""The page of test and pool items: its values, what is left out, and its size."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.viewer_root import HOSTILE, NAMES, compare_with_tables, embedded, page_items, write_root
from zreward_core.commands.viewer import write
from zreward_core.config import UserError
from zreward_core.evaluation import viewer, viewer_items
from zreward_core.evaluation.viewer import as_json, thumbnail
from zreward_core.schemas import ITEMS, write_table

NUM_TEST, NUM_POOL = 30, 20
BUILD = """
from zreward_core.commands.memory import own_peak
from zreward_core.commands.viewer import write
before = own_peak()
write()
print(before // 2**20, own_peak() // 2**20)
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_root(tmp_path / "root", NUM_TEST, NUM_POOL)
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


def test_values_are_those_of_the_tables(root: Path) -> None:
    assert write() == Path("reports/viewer/index.html")
    assert compare_with_tables(root) == NUM_TEST + NUM_POOL // 2
    page = Path("reports/viewer/index.html").read_text()
    counts = embedded(page, "index")["counts"]
    assert counts == {"test": [NUM_TEST, NUM_TEST], "pool": [NUM_POOL // 2, NUM_POOL]}
    opinions = [
        given
        for _, details in page_items(viewer.FOLDER)
        for rows in details["ratings"]
        for given in rows
        if given[0] == "mean of 7 ratings"
    ]
    assert opinions == [["mean of 7 ratings", 2.25, "o.csv#row 9", 0]]


def test_comparisons_are_shown_with_both_items(root: Path) -> None:
    write()
    votes = {entry["id"]: details["votes"] for entry, details in page_items(viewer.FOLDER)}
    first, second = pd.read_parquet("data/ingest/comparisons.parquet")[["item_a", "item_b"]].iloc[0]
    assert votes.pop(first) == [
        [
            ["1", "worse than", "v.csv#row 2", 0, second],
            ["anonymous", "tie with", "w.csv#row 2", 0, "absent"],
            ["3", "as bad as", "v.csv#row 3", 1, second],  # excluded by the audit
        ],
        [],
    ]
    assert votes.pop(second)[0] == [
        ["3", "as bad as", "v.csv#row 3", 1, first],
        ["1", "better than", "v.csv#row 2", 0, first],
    ]
    assert all(one == [[], []] for one in votes.values())


def test_texts_cannot_become_markup(root: Path) -> None:
    write()
    texts = [path.read_text() for path in Path("reports/viewer").rglob("*.*")]
    assert not any("window.hacked = 1</script>" in text or "<img src=x" in text for text in texts)
    _, details = next(one for one in page_items(viewer.FOLDER) if one[0]["prompt"] == HOSTILE)
    assert details["traces"][0] == [HOSTILE]


def test_the_single_file_has_whole_chunks_up_to_its_limit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write()
    sizes = [len(path.read_text()) for path in sorted(Path("reports/viewer/items").glob("*"))]
    monkeypatch.setattr(viewer, "SINGLE_BYTES", sum(sizes[:2]))
    write()
    page = (viewer.FOLDER / "viewer.html").read_text()
    index = embedded(page, "index")
    assert index["counts"] == {"test": [NUM_TEST, NUM_TEST], "pool": [2, NUM_POOL]}
    assert len(embedded(page, "chunk-0")) == len(embedded(page, "chunk-1")) == viewer.CHUNK_ITEMS
    assert 'id="chunk-2"' not in page and len(index["id"]) == 2 * viewer.CHUNK_ITEMS


def test_more_test_items_than_the_limit_are_sampled(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_items, "MAX_TEST_ITEMS", 10)
    write()
    index = embedded((viewer.FOLDER / "index.html").read_text(), "index")
    assert index["counts"]["test"] == [10, NUM_TEST] and sum(index["is_test"]) == 10


def test_items_without_scores_pool_or_ratings_are_shown(root: Path) -> None:
    table = pd.read_parquet("data/validate/items.parquet")
    table.loc[table["dimension"] == NAMES[0], ["score", "histogram"]] = None
    write_table(table, Path("data/validate/items.parquet"), ITEMS)
    for name in (
        "ingest/ratings",
        "ingest/comparisons",
        "ingest/opinions",
        "evaluate/pool_predictions",
        "label/labels",
    ):
        Path(f"data/{name}.parquet").unlink()
    write()
    shown = list(page_items(viewer.FOLDER))
    assert len(shown) == NUM_TEST
    for entry, details in shown:
        assert entry["score"][0] is None and details["histogram"][0] is None
        assert entry["score"][1] is not None and details["ratings"] == details["votes"] == [[], []]


def test_images_are_small_and_small_ones_exact() -> None:
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (20, 32, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(thumbnail(small))) as shown:
        assert (np.asarray(shown.convert("RGB")) == small).all()
    with Image.open(io.BytesIO(thumbnail(np.zeros((400, 1000, 3), np.uint8)))) as shown:
        assert shown.size == (256, 102)


def test_an_unknown_number_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json([float("nan")])


def test_without_an_evaluation_the_stage_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_root(tmp_path / "root", 2)
    monkeypatch.chdir(tmp_path / "root")
    Path("data/evaluate/predictions.parquet").unlink()
    with pytest.raises(UserError, match=r"predictions\.parquet not found: run `zreward evaluate`"):
        write()


@pytest.mark.slow
def test_ten_thousand_items_need_bounded_memory_and_a_small_page(tmp_path: Path) -> None:
    write_root(tmp_path / "root", 10_000, num_images=200)
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=tmp_path / "root", check=True, text=True,
        capture_output=True,
    )  # fmt: skip
    before, peak = map(int, done.stdout.split()[-2:])
    folder = tmp_path / "root/reports/viewer"
    assert peak - before < 400  # MiB
    assert (folder / "index.html").stat().st_size < 4_000_000
    assert (folder / "viewer.html").stat().st_size < viewer.SINGLE_BYTES + 4_000_000
    assert max(path.stat().st_size for path in (folder / "items").iterdir()) < 200_000
