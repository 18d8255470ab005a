"""The graphs in dvc.yaml and benchmarks/dvc.yaml against the code: stages, params, and the rooms
each stage imports."""

import importlib
from pathlib import Path

import grimp
import pytest
import yaml

from zreward_core.cli import METHODS, STAGES
from zreward_core.dvc import read_stages

ROOT = Path(__file__).parents[1]
GRAPH = read_stages(ROOT / "dvc.yaml")
BENCH = read_stages(ROOT / "benchmarks/dvc.yaml")
CELLS = yaml.safe_load((ROOT / "benchmarks/methods.yaml").read_text())["cells"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("zreward_core")


def test_stages_are_those_of_the_command_line() -> None:
    assert tuple(GRAPH) == STAGES
    assert all(GRAPH[name]["cmd"] == f"zreward {name}" for name in STAGES)


def ran_by(kind: str) -> set[str]:
    """The commands of all cells of a kind."""
    cell = importlib.import_module("benchmarks.cell")
    return {command for entry in CELLS[kind].values() for command in cell.commands(kind, entry)}


def modules_without_a_dep(
    deps: list[str], stages: list[str], imports: grimp.ImportGraph
) -> list[str]:
    needed: set[str] = set()
    for stage in stages:
        module = f"zreward_core.stages.{stage}"
        needed |= {module} | imports.find_upstream_modules(module)
    missing = []
    for one in sorted(needed - {"zreward_core.stages"}):
        path = one.replace(".", "/")
        files = {f"{path}.py", f"{path}/__init__.py"}
        if not any(f in deps or any(f.startswith(f"{d}/") for d in deps) for f in files):
            missing.append(one)
    return missing


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_cover_the_imports(name: str, imports: grimp.ImportGraph) -> None:
    assert not modules_without_a_dep(GRAPH[name]["deps"], [name], imports)


def test_the_comparison_runs_every_method() -> None:
    assert set(CELLS) == set(BENCH) - {"table"}
    ran = {command for kind in CELLS for command in ran_by(kind)}
    assert ran == {*METHODS, *STAGES[STAGES.index("train_gdso") :]} - {"evaluate", "champion"}
    assert not set(METHODS) & set(STAGES) and set(METHODS) <= set(PARAMS)
    names = [name for cells in CELLS.values() for name in cells]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", BENCH)
def test_code_deps_cover_the_imports_of_cells(name: str, imports: grimp.ImportGraph) -> None:
    deps = [dep.removeprefix("../") for dep in BENCH[name]["deps"]]
    told = [kind for kind in CELLS if kind.startswith("train_")]  # whose training the table tells
    ran = ["evaluate", *told] if name == "table" else sorted(ran_by(name))
    assert not modules_without_a_dep(deps, ran, imports)
    outs = [out for stage in GRAPH.values() for out in stage["outs"]]
    for dep in deps:
        if dep.startswith("data/"):
            assert (
                any(dep == o or dep.startswith(f"{o}/") or o == dep for o in outs)
                or (ROOT / dep).exists()
            ), dep


@pytest.mark.parametrize(
    ("stage", "method"), [(stage, method) for stage, cells in CELLS.items() for method in cells]
)
def test_cells_params_fit_their_stages(
    stage: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    cell = importlib.import_module("benchmarks.cell")
    params = cell.overlay(stage, 3, CELLS[stage][method]["params"])
    path = tmp_path / "overlay.yaml"
    path.write_text(yaml.safe_dump(params))
    for name in cell.commands(stage, CELLS[stage][method]):
        module = importlib.import_module(f"zreward_core.stages.{name}")
        assert module.Config.load(name, path).seed == 3


@pytest.mark.parametrize("name", STAGES)
def test_params_name_the_section_and_the_shared_keys(name: str) -> None:
    module = __import__(f"zreward_core.stages.{name}", fromlist=["Config"])
    shared = {"seed", "splits"} & set(module.Config.model_fields)
    assert set(GRAPH[name]["params"]) == shared | {name}
    assert name in PARAMS


@pytest.mark.parametrize("name", STAGES)
def test_stages_have_descriptions_and_groups(name: str) -> None:
    assert GRAPH[name]["desc"]
    assert GRAPH[name]["meta"]["group"] in {"models", "annotations", "reward", "generator"}
    assert isinstance(GRAPH[name]["meta"]["gpu"], bool)


def test_every_file_dep_is_made_by_a_stage_or_lies_in_the_repository() -> None:
    outs = [out for stage in GRAPH.values() for out in stage["outs"]]
    for stage in GRAPH.values():
        for dep in stage["deps"]:
            made = any(dep == o or dep.startswith(f"{o}/") or o.startswith(f"{dep}/") for o in outs)
            assert made or (ROOT / dep).exists(), dep
