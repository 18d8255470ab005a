"""The reader of dvc.yaml and dvc.lock: graph, dialect, locked and current params."""

from pathlib import Path

import pytest

from tests.pipelines import tiny
from zreward_core.cli import STAGES
from zreward_core.commands.dvc_cache import (
    CHECKED,
    cache_folder,
    damaged_files,
    locked_files,
)
from zreward_core.config import UserError
from zreward_core.dvc import (
    ancestors,
    closure,
    current_params,
    locked_params,
    md5s,
    own_inputs,
    read_graph,
    read_lock,
)

ROOT = Path(__file__).parents[1]


def test_tiny_graph(tmp_path: Path) -> None:
    graph = read_graph(tiny.make(tmp_path / "project"))
    assert list(graph) == list(tiny.STAGES)
    assert graph["first"].gpu and graph["first"].group == "models"
    assert graph["last"].upstream == ("left", "right")
    assert ancestors(graph, "last") == {"first", "left", "right"}
    assert closure(graph, ["right"]) == ["right", "last"]
    assert closure(graph, []) == []
    assert own_inputs(graph, "left") == ["code/left.py"]


def test_every_stage_of_the_project_and_its_code() -> None:
    graph = read_graph(ROOT)
    assert graph and set(graph) <= set(STAGES)
    for stage in graph.values():
        assert stage.code and (ROOT / stage.code).is_file(), stage.name
        assert stage.group in {"models", "annotations", "reward", "generator"}
    assert graph["champion"].upstream == ("train_risd",)
    assert {"champion", "finetune_generator", "evaluate_gsb"} == set(closure(graph, ["champion"]))


def test_order_follows_the_edges_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n"
        "  b: {cmd: x, deps: [a.txt], outs: [b.txt]}\n"
        "  a: {cmd: x, outs: [{a.txt: {cache: false}}]}\n"
    )
    assert list(read_graph(tmp_path)) == ["a", "b"]


def test_numbers_of_dvc_lock_are_those_of_params_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC writes YAML 1.2: `5e-05` is a number, which PyYAML reads as a string."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 3\nother: 1\ntoy: {rate: 0.00005, on: yes}\n")
    Path("over.yaml").write_text("toy: {steps: 1e3}\n")
    Path("dvc.yaml").write_text("stages:\n  toy: {cmd: x, params: [seed, toy, more.yaml: [a]]}\n")
    Path("dvc.lock").write_text(
        "stages:\n  toy:\n    cmd: x\n    outs: [{path: data/toy, md5: abc.dir}]\n"
        "    params: {params.yaml: {seed: 3, toy: {rate: 5e-05, on: 'yes', steps: 1000.0}}}\n"
    )
    entry = read_lock()["toy"]
    assert locked_params(entry) == current_params("toy", Path("over.yaml"))
    assert locked_params(entry)["toy"] == {"rate": 5e-05, "on": "yes", "steps": 1000.0}
    assert md5s(entry, "outs") == {"data/toy": "abc.dir"} and md5s(entry, "deps") == {}
    Path("dvc.lock").unlink()
    assert read_lock() == {}


@pytest.mark.parametrize(
    "entry",
    [
        *("outs: 5", "outs: [5]", "outs: [{md5: a}]", "deps: {path: a}"),
        *("params: [a]", "params: {a: 1}"),
    ],
)
def test_a_lock_that_dvc_did_not_write_is_refused(tmp_path: Path, entry: str) -> None:
    (tmp_path / "dvc.lock").write_text(f"stages:\n  toy: {{cmd: x, {entry}}}\n")
    with pytest.raises(UserError, match=r"dvc\.lock: the stage 'toy' is not as DVC writes it"):
        read_lock(tmp_path)


@pytest.mark.parametrize("content", ["5", "[5]", '[{"md5": "a"}]', "{", "[" * 9000, "null"])
def test_damaged_lists_of_the_cache_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    md5 = "0" * 32 + ".dir"
    listed = cache_folder() / md5[:2] / md5[2:]
    listed.parent.mkdir(parents=True)
    listed.write_text(content)
    Path("dvc.lock").write_text(f"stages:\n  toy: {{outs: [{{path: data, md5: {md5}}}]}}\n")
    assert list(locked_files()) == [(Path("data"), md5)]
    CHECKED.parent.mkdir()
    CHECKED.write_text(content)
    assert damaged_files() == [listed]
