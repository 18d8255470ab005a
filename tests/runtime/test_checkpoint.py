"""Checkpoints, keyed by params, inputs and code; atomic outputs; history."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from zreward_core.config import Settings, UserError
from zreward_core.runtime.checkpoint import (
    Checkpoint,
    code_hash,
    read_state,
    require_shapes,
    tree_hash,
)
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import read_history, write_history
from zreward_core.runtime.sharding import restore
from zreward_core.schemas import NotFinite, write_json


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


def saved_twice() -> Path:
    """The file of a checkpoint of step 2; that of step 1 is kept beside it."""
    checkpoint = Checkpoint("stage", Params(steps=5), [])
    for step in (1, 2):
        weights = torch.full((64,), float(step))
        checkpoint.save("state", {"step": step, "weights": [weights], "history": [{"loss": 0.5}]})
    return checkpoint.folder / "state.pt"


def test_the_key_does_not_depend_on_what_was_imported() -> None:
    code = "from zreward_core.runtime.checkpoint import code_hash; print(code_hash('train_risd'))"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", before + code], capture_output=True, text=True, check=True
        ).stdout
        for before in ("", "import zreward_core.stages.train_risd, zreward_core.world.oracle\n")
    }
    assert len(hashes) == 1 and hashes != {code_hash("evaluate_gsb") + "\n"}


@pytest.mark.parametrize("harm", ["cut", "zero", "flip", "empty"])
def test_a_torn_checkpoint_is_set_aside_and_the_one_before_is_loaded(
    harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved_twice()
    content = bytearray(path.read_bytes())
    if harm == "cut":
        content = content[: len(content) // 2]
    elif harm == "flip":
        content[content.index(torch.full((64,), 2.0).numpy().tobytes()) + 5] ^= 1
    else:
        content = bytearray(len(content) if harm == "zero" else 0)
    path.write_bytes(content)
    found = Checkpoint("stage", Params(steps=5), []).load("state")
    assert found is not None and found["step"] == 1 and found["weights"][0][0] == 1
    assert str(path) in caplog.text and "state.pt.torn" in caplog.text
    assert sorted(p.name for p in path.parent.iterdir()) == ["state.previous.pt", "state.pt.torn"]
    (path.parent / "state.previous.pt").write_bytes(b"")
    assert Checkpoint("stage", Params(steps=5), []).load("state") is None


def test_any_damaged_byte_is_noticed_or_does_no_harm() -> None:
    path = saved_twice()
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for at in rng.integers(len(content), size=200):
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        if (state := read_state(path)) is not None:
            assert state["step"] == 2 and (state["weights"][0] == 2).all()


def test_a_checkpoint_replaces_the_one_before_only_when_it_is_on_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = saved_twice()
    flushed: list[str] = []

    def fsync(number: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    Checkpoint("stage", Params(steps=5), []).save("state", {"step": 3})
    assert flushed == ["state.partial", path.parent.name]

    def broken(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(UserError, match=r"state.pt cannot be written.*No space left.*were kept"):
        Checkpoint("stage", Params(steps=5), []).save("state", {"step": 4})
    found = Checkpoint("stage", Params(steps=5), []).load("state")
    assert found is not None and found["step"] == 3
    assert not list(path.parent.glob("*.partial"))


def test_an_output_replaces_the_one_before_only_when_all_of_it_is_on_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = Path("data/stage")
    events: list[str] = []

    def fsync(number: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    with whole_output(output, Params(steps=5)) as folder:
        (folder / "model").mkdir()
        (folder / "model/card.txt").write_text("x")
        assert events == []
    wanted = {"card.txt", "model", ".stage.partial", "config.json"}
    assert wanted <= set(events) and events[-1] == "data"
    events.clear()
    write_json({}, output / "late.json")
    assert events == ["late.json.partial", "stage"]


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({"weights": [torch.ones(2), torch.tensor([1.0, torch.nan])]}, r"weights\.1.* \(nan\)"),
        ({"optimizers": [{"state": {0: {"exp_avg": torch.tensor(torch.inf)}}}]}, r"exp_avg.*inf"),
        ({"rows": [{"mass": float("nan")}]}, r"rows\.0\.mass"),
    ],
)
def test_numbers_that_are_not_finite_are_not_saved(state: dict, named: str) -> None:
    path = saved_twice()
    with pytest.raises(NotFinite, match=rf"^stage, step 3: '.*{named}"):
        Checkpoint("stage", Params(steps=5), []).save("state", {"step": 3, **state})
    found = Checkpoint("stage", Params(steps=5), []).load("state")
    assert found is not None and found["step"] == 2 and path.is_file()


def test_weights_and_optimizer_state_of_other_shapes_are_refused() -> None:
    def trained(size: int) -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        layer = torch.nn.Linear(1, size, bias=False)
        optimizer = torch.optim.AdamW(layer.parameters())
        layer(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        return layer, optimizer

    (layer, small), (_, large) = trained(1), trained(3)
    restore(small, small.state_dict())
    with pytest.raises(UserError, match=r"does not fit the model: .*\[\[1, 1\]"):
        restore(large, small.state_dict())
    with pytest.raises(UserError, match="does not fit"):
        require_shapes([layer.weight], [torch.zeros(3, 1)])
