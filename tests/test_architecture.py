"""The graph in dvc.yaml against the code: stages, params, and the rooms each stage imports."""

from pathlib import Path

import grimp
import pytest
import yaml

from zreward_core.cli import STAGES

ROOT = Path(__file__).parents[1]
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("zreward_core")


def test_stages_are_those_of_the_command_line() -> None:
    assert tuple(GRAPH) == STAGES
    assert all(GRAPH[name]["cmd"] == f"zreward {name}" for name in STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_cover_the_imports(name: str, imports: grimp.ImportGraph) -> None:
    deps = [dep for dep in GRAPH[name]["deps"] if dep.startswith("zreward_core")]
    module = f"zreward_core.stages.{name}"
    needed = {module} | imports.find_upstream_modules(module)
    missing = []
    for one in sorted(needed - {"zreward_core.stages"}):
        path = one.replace(".", "/")
        files = {f"{path}.py", f"{path}/__init__.py"}
        if not any(f in deps or any(f.startswith(f"{d}/") for d in deps) for f in files):
            missing.append(one)
    assert not missing


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
