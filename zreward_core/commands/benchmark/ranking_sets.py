"""Sets of rankings, read as pairs: HPDv2 and ImageReward. In both, the lowest rank is the best."""

from itertools import combinations
from pathlib import Path

from zreward_core.commands.benchmark.rows import Row, find_files, json_rows
from zreward_core.commands.benchmark.tables import ImageList, Pair, PairSet, SetImage, pair_set
from zreward_core.schemas import normalise_prompt


def read_hpdv2(folder: Path, title: str) -> PairSet:
    """HPDv2's test set: rankings averaged over annotators, and the ranking of each.

    Source: github.com/tgxs002/HPSv2, README.md, "Data Structure": test.json with ``image_path``,
    ``rank`` and ``raw_annotations`` (``raw_annotation`` in some copies); images in test/.
    """
    path, *_ = find_files(folder, ("test.json", "**/test.json"), title)
    images, pairs, votes = ImageList(), list[Pair](), list[list[float]]()
    for row in json_rows(path):
        names = row.texts("image_path")
        ranks = row.numbers("rank", len(names))
        raters = _raters(row, len(names))
        _add(row, names, "test", ranks, images, pairs)
        for first, second in combinations(range(len(names)), 2):
            votes.append([one[second] - one[first] for one in raters])
    return pair_set(images, pairs, votes, [])


def _raters(row: Row, number: int) -> list[list[float]]:
    key = next((key for key in ("raw_annotations", "raw_annotation") if key in row.content), "")
    raters = row.content.get(key)
    if raters is None:
        return []
    if not isinstance(raters, list):
        row.fault(f"'{key}' is not a list of annotators")
    return [row.numbers(f"{key}.{index}.rank", number) for index in range(len(raters))]


def read_imagereward(folder: Path, title: str) -> PairSet:
    """ImageReward's test set; equal ranks are ties.

    Source: github.com/THUDM/ImageReward, data/test.json (``generations``, ``ranking``) and
    README.md: images in data/test_images. The annotators are not given.
    """
    path, *_ = find_files(folder, ("test.json", "data/test.json", "**/test.json"), title)
    images, pairs = ImageList(), list[Pair]()
    for row in json_rows(path):
        names = row.texts("generations")
        _add(row, names, "test_images", row.numbers("ranking", len(names)), images, pairs)
    return pair_set(images, pairs, [], [])


def _add(
    row: Row, names: list[str], folder: str, ranks: list[float], images: ImageList, pairs: list
) -> None:
    """Add the images and all pairs of a ranking."""
    if len(names) < 2:
        row.fault("a ranking of one image has no pairs")
    prompt = row.text("prompt")
    places = [images.add(SetImage(prompt, row.place, _paths(folder, name))) for name in names]
    key, ranking = normalise_prompt(prompt), pairs[-1].ranking + 1 if pairs else 0
    for first, second in combinations(range(len(names)), 2):
        label = float((ranks[second] > ranks[first]) - (ranks[second] < ranks[first]))
        pairs.append(Pair(row.place, key, places[first], places[second], label, ranking=ranking))


def _paths(folder: str, name: str) -> tuple[str, ...]:
    """Where an image can be; a bare name such as 1.jpg is also one of other folders' images."""
    return (f"{folder}/{name}", name) if "/" in name else (f"{folder}/{name}",)
