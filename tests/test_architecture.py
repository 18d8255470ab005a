"""dvc.yaml and benchmarks/stages.yaml against the code: stages, params, imports of each stage."""

import importlib
from pathlib import Path

import grimp
import pytest
import yaml

from zreward_core.cli import STAGES as WORDS
from zreward_core.dvc import read_stages

ROOT = Path(__file__).parents[1]
GRAPH = read_stages(ROOT / "dvc.yaml")
BENCH = read_stages(ROOT / "benchmarks/stages.yaml")
DESCRIBED = yaml.safe_load((ROOT / "benchmarks/methods.yaml").read_text())
CELLS = {kind: entry["cells"] for kind, entry in DESCRIBED["kinds"].items()}
STAGES = tuple(GRAPH)
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("zreward_core")


def test_stages_are_those_of_the_command_line() -> None:
    assert set(STAGES) <= set(WORDS)
    assert not any(word.startswith("_") for word in WORDS)
    assert all(GRAPH[name]["cmd"] == f"zreward {name}" for name in STAGES)


def ran_by(kind: str) -> set[str]:
    """The stages of all cells of a kind."""
    cell = importlib.import_module("benchmarks.cell")
    return {stage for name in CELLS[kind] for stage in cell.stages(DESCRIBED, kind, name)}


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
    ran = {stage for kind in CELLS for stage in ran_by(kind)}
    main = STAGES[STAGES.index("train_gdso") :]
    assert ran == {*main, *set(WORDS) - set(STAGES)} - {"evaluate", "champion"}
    assert ran <= set(PARAMS)
    names = [name for cells in CELLS.values() for name in cells]
    assert len(names) == len(set(names))


def test_the_graph_of_the_comparison_is_the_generated_one(monkeypatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    generated = importlib.import_module("generate_dvc").rendered()
    assert (ROOT / "benchmarks/stages.yaml").read_text() == generated, (
        "run python benchmarks/generate_dvc.py"
    )


def test_orderings_name_cells() -> None:
    names = {name for cells in CELLS.values() for name in cells}
    pairs = [*DESCRIBED["orderings"], *DESCRIBED["tuned_orderings"], DESCRIBED["defects"]]
    assert {name for pair in pairs for name in pair} <= names
    tables = {
        cell["table"] for cells in CELLS.values() for cell in cells.values() if "table" in cell
    }
    assert tables == set(DESCRIBED["tables"])


@pytest.mark.parametrize("name", BENCH)
def test_code_deps_cover_the_imports_of_cells(name: str, imports: grimp.ImportGraph) -> None:
    deps = [dep.removeprefix("../") for dep in BENCH[name]["deps"]]
    trained = [kind for kind in CELLS if kind.startswith("train_")]  # quoted in the report
    ran = ["evaluate", *trained] if name == "table" else sorted(ran_by(name))
    assert not modules_without_a_dep(deps, ran, imports)
    outs = [out for stage in GRAPH.values() for out in stage["outs"]]
    for dep in deps:
        if dep.startswith("data/"):
            made = any(dep == out or dep.startswith(f"{out}/") for out in outs)
            assert made or (ROOT / dep).exists(), dep


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, cells in CELLS.items() for name in cells]
)
def test_cells_params_fit_their_stages(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    cell = importlib.import_module("benchmarks.cell")
    path = tmp_path / "overlay.yaml"
    path.write_text(yaml.safe_dump(cell.overlay(DESCRIBED, kind, name, 3)))
    for stage in cell.stages(DESCRIBED, kind, name):
        module = importlib.import_module(f"zreward_core.stages.{stage}")
        assert module.Config.load(stage, path).seed == 3


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
