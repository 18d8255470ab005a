"""Sets of pairs: Multimodal RewardBench 2, HPDv3, GenAI-Bench (TIGER-Lab), MJ-Bench."""

from pathlib import Path
from typing import Any

from zreward_core.annotations.ingest.public_sets import load_public_set
from zreward_core.commands.benchmark.rows import (
    LABELS,
    Row,
    columns_of,
    find_files,
    json_rows,
    parquet_columns,
    parquet_rows,
)
from zreward_core.commands.benchmark.tables import (
    ImageCell,
    ImageList,
    Pair,
    PairSet,
    SetImage,
    pair_set,
)
from zreward_core.schemas import normalise_prompt

MMRB2_MIDDLE = 3.5
"""Above it, the first response of a pair is better."""
TIGER_IMAGES = ("left_image", "right_image")
MJ_IMAGES = ("image0", "image1")


def read_mmrb2(folder: Path, title: str) -> PairSet:
    """Multimodal RewardBench 2, text to image, with the votes of three annotators.

    Source: https://github.com/facebookresearch/MMRB2, benchmark/t2i_response_only.json (1-6, 6 is A
    much better; no prompts) and benchmark/build_from_hf.py, ``convert_hf_to_benchmark_format``
    (t2i.json, with prompts). The README's ``response_a.model`` is ``model_name`` in both.
    """
    path, *_ = find_files(folder, ("**/t2i.json", "**/t2i_response_only.json"), title)
    settings = load_public_set("mmrb2").settings
    columns = settings["columns"]
    images, pairs, votes = ImageList(), list[Pair](), list[list[float]]()
    for row in json_rows(path, settings["records"]):
        whole = row.get("prompt_content") is not None
        prompt = row.text(columns["prompt"]) if whole else None
        key = normalise_prompt(prompt) if prompt else _mmrb2_key(row)
        first, second = _images(row, prompt, columns, images)
        generators = {row.text(columns[f"generator_{side}"]) for side in "ab"}
        subset = "one generator" if len(generators) == 1 else "two generators"
        label = LABELS[row.vote(columns["vote"])]
        pairs.append(Pair(row.place, key, first, second, label, subset=subset))
        given = row.get("human_annotations") is not None
        scores = row.numbers("human_annotations") if given else []
        votes.append([score - MMRB2_MIDDLE for score in scores])
    return pair_set(images, pairs, votes, [])


def _images(
    row: Row, prompt: str | None, columns: dict[str, Any], images: ImageList
) -> tuple[int, int]:
    """Positions of the two images of a row, whose columns have paths."""
    first, second = (
        images.add(SetImage(prompt, row.place, (row.text(columns[name]),)))
        for name in ("image_a", "image_b")
    )
    return first, second


def _mmrb2_key(row: Row) -> str:
    """A key for the prompt where its text is not given; the identifiers are texts or numbers."""
    identifier = row.get("prompt_metadata.id")
    if identifier is None:
        row.fault("'prompt_metadata.id' is missing")
    return f"{row.text('prompt_source')} {identifier}"


def read_hpdv3(folder: Path, title: str) -> PairSet:
    """HPDv3: ``path1`` is always the preferred image.

    Source: huggingface.co/datasets/MizzenAI/HPDv3 (test.json); github.com/MizzenAI/HPSv3,
    hpsv3/train.py and config/HPSv3_7B.yaml (``confidence_threshold``); HPDv3++ has the same
    records, with null where nothing was annotated (github.com/PlantPotatoOnMoon/HPSv3-PlusPlus,
    README.md). ``choice_dist`` counts the votes; as ``path1`` is the preferred image, the larger
    count is taken as its votes.
    """
    paths = find_files(folder, ("**/test*.json",), title)
    columns = columns_of("hpdv3")
    images, pairs, votes = ImageList(), list[Pair](), list[list[float]]()
    for path in paths:
        for row in json_rows(path):
            prompt = row.text(columns["prompt"])
            first, second = _images(row, prompt, columns, images)
            label = LABELS[row.vote(columns["vote"])]
            known = row.get("confidence") not in (None, "null")
            confidence = row.number("confidence") if known else float("nan")
            subset = path.stem if len(paths) > 1 else ""
            key = normalise_prompt(prompt)
            pair = Pair(row.place, key, first, second, label, subset=subset, confidence=confidence)
            pairs.append(pair)
            votes.append(_counted_votes(row))
    return pair_set(images, pairs, votes, [])


def _counted_votes(row: Row) -> list[float]:
    if row.get("choice_dist") is None:
        return []
    counts = sorted(row.numbers("choice_dist", 2), reverse=True)
    if any(count != int(count) or not 0 <= count <= 1000 for count in counts):
        row.fault(f"'choice_dist' is {counts}, not numbers of votes")
    return [1.0] * int(counts[0]) + [-1.0] * int(counts[1])


def read_genai_bench_tiger(folder: Path, title: str) -> PairSet:
    """GenAI-Bench of TIGER-Lab, image generation: left, right, tie, both bad.

    Source: huggingface.co/datasets/TIGER-Lab/GenAI-Bench, dataset card (``left_image``,
    ``right_image``, ``vote_type``; split ``test_v1``, 1,735 votes, by which
    github.com/TIGER-AI-Lab/GenAI-Bench, inference.py, computes the leaderboard). Its repository
    also has the votes without the images: results/image_generation/*/pairwise.json
    (``human_vote``).
    """
    patterns = (
        "**/image_generation/*_v1-*.parquet",
        "**/image_generation/*.parquet",
        "**/*.parquet",
        "**/image_generation/*/pairwise.json",
        "**/pairwise.json",
    )
    paths = find_files(folder, patterns, title)
    columns = columns_of("genai_arena")
    vote, prompt_column = columns["vote"], columns["prompt"]
    images, pairs = ImageList(), list[Pair]()
    if paths[0].suffix == ".json":  # one file per evaluated model, all with the same votes
        rows = list(json_rows(paths[0]))
        vote = {**vote, "column": "human_vote"}
    else:
        names = (prompt_column, vote["column"])
        rows = [row for path in paths for row in parquet_rows(path, names, TIGER_IMAGES)]
    for row in rows:
        prompt, answer = row.text(prompt_column), row.vote(vote)
        first, second = (images.add(_stored(row, prompt, name)) for name in TIGER_IMAGES)
        key = normalise_prompt(prompt)
        bad = answer == "both_bad"
        pairs.append(Pair(row.place, key, first, second, LABELS[answer], both_bad=bad))
    return pair_set(images, pairs, [], [f"read from {paths[0]}"])


def _stored(row: Row, prompt: str, column: str) -> SetImage:
    """An image of a Parquet row; one without a file for a row of JSON."""
    if row.index is not None:
        return SetImage(prompt, row.place, cell=ImageCell(row.path, row.index, column))
    return SetImage(prompt, row.place, (f"{row.ref} {column}",))


def read_mj_bench(folder: Path, title: str) -> PairSet:
    """MJ-Bench: label 0 prefers ``image0``, label 1 ``image1``.

    Source: github.com/MJ-Bench/MJ-Bench, alignment/benchmark/*/*_test.json (the lists
    ``actions/actions_test.json``, ...; ``pap_``, ``hpdv2_`` and ``imagereward_`` files are parts of
    them) and dataset.py (Parquet with the same columns and one file per perspective, `bias`
    excepted, whose images are single).
    """
    paths = find_files(folder, ("**/*.parquet", "**/*_test.json"), title)
    images, pairs, notes = ImageList(), list[Pair](), list[str]()
    for path in paths:
        in_json = path.suffix == ".json"
        if in_json and path.stem != f"{path.resolve().parent.name}_test":
            continue
        if not in_json and not {*MJ_IMAGES} <= {*parquet_columns(path)}:
            notes.append(f"{path.name} has no pairs of images and is not read")
            continue
        rows = json_rows(path) if in_json else parquet_rows(path, ("caption", "label"), MJ_IMAGES)
        for row in rows:
            prompt, label = row.text("caption"), row.get("label")
            if isinstance(label, bool) or label not in (0, 1):
                row.fault(f"'label' is {label!r}; expected 0 or 1")
            first, second = (
                images.add(_listed(row, prompt, name) if in_json else _stored(row, prompt, name))
                for name in MJ_IMAGES
            )
            subset = path.stem.removesuffix("_test").partition("-")[0]
            key = normalise_prompt(prompt)
            pairs.append(Pair(row.place, key, first, second, 1.0 - 2.0 * label, subset=subset))
    return pair_set(images, pairs, [], notes)


def _listed(row: Row, prompt: str, column: str) -> SetImage:
    name = row.text(column)
    return SetImage(prompt, row.place, (f"images/{name}", name))
