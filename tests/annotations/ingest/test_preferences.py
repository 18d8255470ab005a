"""Votes that name their winner, rankings with ties, booleans, rows with an empty cell."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.annotations.sources import Read

SCALE = {"min": 1, "max": 5, "higher_is_better": True}
Reader = Callable[..., Read]


def votes(read: Reader, path: Path, vote: dict[str, Any], kind: str = "csv") -> Read:
    sides = {"image_a": "l", "image_b": "r", "generator_a": "ga", "generator_b": "gb"}
    columns = {"prompt": "p", **sides, "vote": vote}
    return read(path, format=kind, columns=columns, dimension="alignment")


def test_a_vote_can_be_the_image_or_the_generator(read: Reader, drops: Path) -> None:
    (drops / "v.csv").write_text(
        "p,l,r,ga,gb,v\n"
        "q,1.png,2.png,sdxl,flux,2.png\n"
        "q,1.png,2.png,sdxl,flux,sdxl\n"
        "q,1.png,2.png,sdxl,flux,draw\n"
        "q,1.png,2.png,flux,flux,flux\n"
        "q,1.png,2.png,sdxl,flux,3.png\n"
        "q,1,2.0,sdxl,flux,2\n"
    )
    result = votes(read, drops / "v.csv", {"column": "v", "map": {"draw": "tie"}})
    assert result.comparisons["vote"].tolist() == ["b", "a", "tie", "b"]
    # two sides of one name, and no side of the name
    assert [one[-5:] for one in result.quarantine["row_ref"]] == ["row 5", "row 6"]


def test_the_map_comes_before_the_names(read: Reader, drops: Path) -> None:
    (drops / "v.csv").write_text("p,l,r,ga,gb,v\nq,1,2,,,1\nq,2,1,,,1\n")
    result = votes(read, drops / "v.csv", {"column": "v", "map": {1: "a", 2: "b"}})
    assert result.comparisons["vote"].tolist() == ["a", "a"]


def order_of(result: Read) -> list[tuple[str, str, str]]:
    """Generators and vote of each comparison."""
    names = dict(result.compared_items[["item_id", "generator"]].itertuples(index=False))
    found = result.comparisons[["item_a", "item_b", "vote"]].itertuples(index=False)
    return [(names[a], names[b], vote) for a, b, vote in found]


TIED = [("A", "B", "a"), ("A", "C", "a"), ("B", "C", "tie")]


@pytest.mark.parametrize(
    ("cell", "separator"), [("A>B=C", None), (" A > B = C ", None), ("A>B=C", ">")]
)
def test_rankings_with_signs(read: Reader, drops: Path, cell: str, separator: str | None) -> None:
    pd.DataFrame({"p": ["q"], "o": [cell]}).to_csv(drops / "o.csv", index=False)
    ranking = {"generators": {"column": "o", "separator": separator}}
    columns = {"prompt": "p", "ranking": ranking}
    result = read(drops / "o.csv", format="csv", columns=columns, dimension="alignment")
    assert order_of(result) == TIED


def test_two_generators_with_a_sign_are_one_comparison(read: Reader, drops: Path) -> None:
    (drops / "o.csv").write_text("p,o\nq,A > B\nq,A = B\n")
    columns = {"prompt": "p", "ranking": {"generators": "o"}}
    result = read(drops / "o.csv", format="csv", columns=columns, dimension="alignment")
    assert order_of(result) == [("A", "B", "a"), ("A", "B", "tie")]


def test_lists_in_a_ranking_are_ties(read: Reader, drops: Path) -> None:
    (drops / "o.jsonl").write_text(
        '{"p": "q", "o": [["A"], ["B", "C"]]}\n{"p": "q", "o": "[\\"A\\", [\\"B\\", \\"C\\"]]"}\n'
    )
    columns = {"prompt": "p", "ranking": {"generators": "o"}}
    result = read(drops / "o.jsonl", format="jsonl", columns=columns, dimension="alignment")
    assert order_of(result) == TIED * 2 and result.quarantine.empty


@pytest.mark.parametrize(
    ("score", "scale", "native"),
    [
        ("s", SCALE, []),
        ("s", {**SCALE, "min": 0, "max": 1}, [1.0, 1.0]),
        ({"column": "s", "words": {True: 5, False: 1}}, SCALE, [5.0, 5.0]),
    ],
)
def test_booleans_have_a_scale_from_0_to_1(
    read: Reader, drops: Path, score: Any, scale: dict, native: list[float]
) -> None:
    (drops / "s.jsonl").write_text('{"p": "q", "s": true}\n{"p": "r", "s": true}\n')
    columns = {"prompt": "p", "score": score}
    result = read(
        drops / "s.jsonl", format="jsonl", columns=columns, dimension="alignment", scale=scale
    )
    assert result.ratings["native_score"].tolist() == native
    assert len(result.quarantine) == 2 - len(native)


@pytest.mark.parametrize("words", [[None], [""], ["", "yes"]])
def test_rows_with_an_empty_cell_are_selected(read: Reader, drops: Path, words: list) -> None:
    (drops / "s.csv").write_text("p,s,gold\nq,1,\nq,2,4\nq,3,no\n")
    settings = {"columns": {"prompt": "p", "score": "s"}, "scale": SCALE}
    only = {"column": "gold", "words": words}
    result = read(drops / "s.csv", format="csv", only=only, dimension="alignment", **settings)
    assert result.ratings["native_score"].tolist() == [1.0]
    assert result.summary.ignored["skipped"] == 2
