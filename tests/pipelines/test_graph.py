from pathlib import Path

from tests.pipelines import tiny
from zreward_core.cli import STAGES
from zreward_core.dvc import ancestors, closure, own_inputs, read_graph

ROOT = Path(__file__).parents[2]


def test_tiny_graph(root: Path) -> None:
    graph = read_graph(root)
    assert list(graph) == list(tiny.STAGES)
    assert graph["first"].gpu and graph["first"].group == "models"
    assert graph["last"].upstream == ("left", "right")
    assert ancestors(graph, "last") == {"first", "left", "right"}
    assert closure(graph, ["right"]) == ["right", "last"]
    assert closure(graph, []) == []
    assert own_inputs(graph, "left") == ["code/left.py"]


def test_every_stage_of_the_project_and_its_code() -> None:
    graph = read_graph(ROOT)
    assert set(graph) == set(STAGES)
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
