"""Pairs: same prompt, same dimension, the winner scored higher."""

import pandas as pd

from zreward_core.annotations.items.pairs import make_pairs, missing_pairs


def items_of(rows: list[tuple]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["item_id", "prompt_id", "dimension", "score"])
    return frame.assign(image_id="f" * 64, split="train")


def test_all_pairs_that_differ() -> None:
    items = items_of(
        [
            ("x", "p1", "alignment", 2.0),
            ("y", "p1", "alignment", 4.0),
            ("z", "p1", "alignment", 2.0),
            ("x", "p1", "realism", 5.0),
            ("v", "p2", "alignment", 1.0),
        ]
    )
    pairs = make_pairs(items)
    assert pairs[["winner", "loser", "score_w", "score_l"]].to_records(index=False).tolist() == [
        ("y", "x", 4.0, 2.0),
        ("y", "z", 4.0, 2.0),
    ]
    assert pairs["split"].tolist() == ["train", "train"]
    assert pairs["dimension"].tolist() == ["alignment", "alignment"]


def test_rounding_makes_no_winner() -> None:
    higher = 1.1 + 2.2
    items = items_of([("x", "p", "alignment", higher), ("y", "p", "alignment", 3.3)])
    assert higher > 3.3
    assert make_pairs(items).empty


def test_unknown_prompt_or_image_makes_no_pair() -> None:
    items = items_of([("x", None, "alignment", 1.0), ("y", None, "alignment", 2.0)])
    assert make_pairs(items).empty
    items = items_of([("x", "p", "alignment", 1.0), ("y", "p", "alignment", 2.0)])
    assert len(make_pairs(items)) == 1
    items.loc[0, "image_id"] = None
    assert make_pairs(items).empty


def test_why_a_dimension_has_no_pair() -> None:
    scores = {"alignment": (1.0, 2.0), "realism": (3.0, 3.0)}
    rows = [(n, "p", name, scores[name][n == "y"]) for name in scores for n in "xy"]
    items = items_of(rows)
    (reason,) = missing_pairs(items, make_pairs(items)).items()
    assert reason[0] == "realism" and "all images of a prompt have the same score" in reason[1]
    for change, expected in (
        ({"prompt_id": None}, "no item has a prompt"),
        ({"image_id": None}, "no item with a prompt has an image"),
        ({"prompt_id": ["p", "q"]}, "no prompt has two images"),
    ):
        changed = items[items["dimension"] == "realism"].assign(**change)
        assert expected in missing_pairs(changed, make_pairs(changed))["realism"]
