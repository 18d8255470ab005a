"""Checkpoints, keyed by params, inputs and code; atomic outputs; history."""

from pathlib import Path

import pytest
import torch

from zreward_core.config import Settings
from zreward_core.runtime.checkpoint import Checkpoint, tree_hash
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import read_history, write_history


class Params(Settings):
    """Params of a stage."""

    steps: int


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("input").mkdir()
    Path("input/a.txt").write_text("one")
    return tmp_path


def test_state_survives_and_is_found_by_the_same_key() -> None:
    state = {"step": 3, "weights": [torch.arange(4.0)], "history": [{"loss": 0.5}]}
    Checkpoint("stage", Params(steps=5), [Path("input")]).save("state", state)
    found = Checkpoint("stage", Params(steps=5), [Path("input")]).load("state")
    assert found is not None and found["step"] == 3
    assert torch.equal(found["weights"][0], torch.arange(4.0))


def test_another_param_or_input_starts_a_new_run() -> None:
    Checkpoint("stage", Params(steps=5), [Path("input")]).save("state", {"step": 3})
    assert Checkpoint("stage", Params(steps=6), [Path("input")]).load("state") is None
    Path("input/a.txt").write_text("two")
    assert Checkpoint("stage", Params(steps=5), [Path("input")]).load("state") is None


def test_clear_removes_the_state() -> None:
    checkpoint = Checkpoint("stage", Params(steps=5), [])
    checkpoint.save("state", {"step": 3})
    checkpoint.clear()
    assert checkpoint.load("state") is None


def test_tree_hash_depends_on_names() -> None:
    before = tree_hash(Path("input"))
    Path("input/a.txt").rename("input/b.txt")
    assert tree_hash(Path("input")) != before


def test_output_is_atomic() -> None:
    output = Path("data/stage")
    with whole_output(output, Params(steps=1)) as folder:
        (folder / "result.txt").write_text("first")
        assert not output.exists()
    assert (output / "result.txt").read_text() == "first"
    assert (output / "config.json").is_file()

    def broken() -> None:
        with whole_output(output, Params(steps=2)) as folder:
            (folder / "result.txt").write_text("second")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        broken()
    assert (output / "result.txt").read_text() == "first"
    assert [path.name for path in Path("data").iterdir()] == ["stage"]


def test_history_round_trip(tmp_path: Path) -> None:
    rows = [{"step": 0, "loss": 1.5}, {"step": 1, "loss": 0.25}]
    write_history(rows, tmp_path / "history.jsonl")
    assert read_history(tmp_path / "history.jsonl") == rows
