"""The stage candidates."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.stages.generator_root import candidates_config, finished_root, root, world_config
from zreward_core.config import UserError
from zreward_core.images import ImageStore, encode_png
from zreward_core.runtime.checkpoint import tree_hash
from zreward_core.schemas import CANDIDATES, PROMPTS, read_table
from zreward_core.stages import _samples, candidates, world

__all__ = ["finished_root", "root"]
OUTPUT = Path("data/candidates")


def test_items_and_pool_hold_samples_and_rendered_images(root):
    prompts = read_table(OUTPUT / "prompts.parquet", PROMPTS)
    store = ImageStore(OUTPUT / "images")
    for name, purpose, count in (("items", "annotation", 3), ("pool", "unlabelled", 4)):
        table = read_table(OUTPUT / f"{name}.parquet", CANDIDATES)
        wanted = set(prompts.loc[prompts["purpose"] == purpose, "prompt_id"])
        assert set(table["prompt_id"]) == wanted
        assert len(wanted) == count
        assert len(table) == count * 4
        assert (table["generator"] != "world").mean() == 0.5
        assert all(identifier in store for identifier in table["image_id"])


def test_the_same_params_give_the_same_bytes(root):
    expected = tree_hash(OUTPUT)
    candidates.run(candidates_config())
    assert tree_hash(OUTPUT) == expected


def test_own_prompts_and_folders(root):
    Path("own.txt").write_text("a red circle on my lawn\n\n  two cats  \n")
    Path("pool.json").write_text('["a dog"]')
    Path("mine").mkdir()
    Path("mine/one.png").write_bytes(encode_png(np.full((20, 30, 3), 200, np.uint8)))
    Path("mine/prompts.json").write_text('{"one.png": "a grey wall"}')
    world.run(world_config(size=0))
    candidates.run(
        candidates_config(
            prompt_files={"annotation": ["own.txt"], "unlabelled": ["pool.json"]},
            folders=[{"path": "mine"}],
        )
    )
    items = read_table(OUTPUT / "items.parquet", CANDIDATES)
    assert set(items["prompt"]) == {"a red circle on my lawn", "two cats", "a grey wall"}
    assert (items["generator"] == "mine").sum() == 1
    assert set(read_table(OUTPUT / "pool.parquet", CANDIDATES)["prompt"]) == {"a dog"}


def test_lines_of_a_prompt_file_end_at_newlines_only(root):
    texts = ["a dog\u2028with a hat", "a cat\x0cin a box", "two\x85birds", "three\x1cfish"]
    Path("own.txt").write_bytes(("\ufeff" + "\r\n".join(texts) + "\n").encode())
    assert candidates.read_prompts(Path("own.txt")) == texts


def test_an_image_that_cannot_be_used_costs_itself(root, caplog):
    settings = _folder({"one.png": "a cat", "good.png": "a dog", "good2.png": 7, "long.png": "x"})
    Path("mine/good.png").write_bytes(encode_png(np.full((20, 30, 3), 90, np.uint8)))
    Path("mine/long.png").write_bytes(encode_png(np.zeros((1, 201, 3), np.uint8)))
    candidates.run(candidates_config(**settings))
    items = read_table(OUTPUT / "items.parquet", CANDIDATES)
    assert items.loc[items["generator"] == "mine", "prompt"].tolist() == ["a dog"]
    assert json.loads((OUTPUT / "metrics.json").read_text())["refused"] == {"mine": 3}
    assert "mine/prompts.json: 3 of 4 images cannot be used" in caplog.text
    for reason in ("must be a non-empty string", "201 x 1 is too narrow", "not a readable image"):
        assert reason in caplog.text


def _prompts(text: str, name: str = "own.txt") -> dict:
    Path(name).write_text(text)
    return {"prompt_files": {"annotation": [name]}}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda: {"prompt_files": {"annotation": ["none.txt"]}}, "none.txt not found"),
        (lambda: _prompts('{"a": 1}', "own.json"), "JSON list of strings"),
        (lambda: {"prompt_files": {"testing": []}}, "is not a purpose"),
        (lambda: {"generators": [{**_setting(), "path": "data/none"}]}, "has no generator"),
        (lambda: _folder({"two.png": "a dog"}), "not found"),
        (lambda: _folder({"../one.png": "a dog"}), "not an image of that folder"),
        (lambda: _folder({"x" * 300 + ".png": "a dog"}), "is not found"),
        (lambda: _folder({"\ud800.png": "a dog"}), "is not found"),
        (lambda: _folder({"a\0.png": "a dog"}), "is not found"),
        (lambda: _folder({"one.png": "a \ud800 dog"}), "must be a non-empty string"),
        (lambda: _prompts('["a \\ud800 dog"]', "own.json"), "is not Unicode text"),
        (lambda: _folder({"one.png": ""}), "must be a non-empty string"),
        (lambda: _narrow(), "201 x 1 is too narrow"),
        (lambda: _folder({"one.png": "a dog"}), "not a readable image"),
    ],
)
def test_user_errors_are_explained(root, prepare, message):
    before = tree_hash(OUTPUT)
    with pytest.raises(UserError, match=message):
        candidates.run(candidates_config(**prepare()))
    assert tree_hash(OUTPUT) == before


def test_another_pipeline_class_is_refused_before_anything_is_sampled(root, monkeypatch):
    monkeypatch.setattr(_samples, "sample", None)
    with pytest.raises(UserError, match="other is a PRXPipeline"):
        candidates.run(candidates_config(generators=[_setting(), _of_another_class()]))


def test_a_prompt_has_one_purpose(root):
    table = read_table(Path("data/world/prompts.parquet"), PROMPTS)
    taken = table.loc[table["purpose"] == "generator_eval", "prompt"].iloc[0]
    with pytest.raises(UserError, match="has two purposes"):
        candidates.run(candidates_config(**_prompts(taken.upper())))


def test_nothing_to_annotate_is_refused(root):
    world.run(world_config(size=0))
    with pytest.raises(UserError, match="no image to annotate"):
        candidates.run(candidates_config())


def _setting() -> dict:
    return {
        "path": "data/base_generator/generator",
        "steps": 2,
        "guidance": 0.0,
        "size": (32, 32),
        "annotation": 1,
    }


def _of_another_class() -> dict:
    Path("other").mkdir()
    Path("other/model_index.json").write_text('{"_class_name": "PRXPipeline"}')
    return {**_setting(), "path": "other"}


def _narrow() -> dict:
    settings = _folder({"one.png": "a dog"})
    Path("mine/one.png").write_bytes(encode_png(np.zeros((1, 201, 3), np.uint8)))
    return settings


def _folder(prompts: dict[str, str]) -> dict:
    Path("mine").mkdir()
    Path("mine/one.png").write_bytes(b"no image")
    Path("mine/prompts.json").write_text(json.dumps(prompts))
    return {"folders": [{"path": "mine"}]}
