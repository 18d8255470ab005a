"""The graph as dvc.yaml says it: stages, their files, and which stage stands above which."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from zreward_core.config import read_yaml


class Stage(NamedTuple):
    """A stage of dvc.yaml."""

    name: str
    description: str
    group: str
    gpu: bool
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]
    upstream: tuple[str, ...]
    """Stages that make what it reads."""
    code: str | None
    """The stage's own source file among the deps."""


Graph = dict[str, Stage]


def read_graph(root: Path) -> Graph:
    """Read dvc.yaml of a project.

    Raises:
        UserError: no such file, or malformed.
    """
    described: dict[str, Any] = read_yaml(root / "dvc.yaml").get("stages") or {}
    outs = {name: _paths(stage.get("outs")) for name, stage in described.items()}
    graph = {}
    for name, stage in described.items():
        deps, meta = _paths(stage.get("deps")), stage.get("meta") or {}
        graph[name] = Stage(
            name=name,
            description=stage.get("desc") or f"Stage {name} of dvc.yaml.",
            group=meta.get("group", "stages"),
            gpu=bool(meta.get("gpu", False)),
            deps=deps,
            outs=outs[name],
            params=tuple(str(param) for param in stage.get("params") or ()),
            upstream=tuple(other for other in outs if other != name and _reads(deps, outs[other])),
            code=next((dep for dep in deps if dep.endswith(f"stages/{name}.py")), None),
        )
    return {name: graph[name] for name in _in_order(graph)}


def ancestors(graph: Graph, name: str) -> set[str]:
    """Every stage above a stage."""
    found: set[str] = set()
    waiting = list(graph[name].upstream)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting.extend(graph[stage].upstream)
    return found


def closure(graph: Graph, names: Iterable[str]) -> list[str]:
    """Some stages and every stage below them, in order."""
    chosen = set(names)
    return [name for name in graph if name in chosen or chosen & ancestors(graph, name)]


def own_inputs(graph: Graph, name: str) -> list[str]:
    """What a stage reads that no stage makes: code, and files of the repository."""
    made = [out for stage in graph.values() for out in stage.outs]
    return [dep for dep in graph[name].deps if not _reads([dep], made)]


def _paths(entries: list[Any] | None) -> tuple[str, ...]:
    return tuple(next(iter(e)) if isinstance(e, dict) else str(e) for e in entries or ())


def _reads(deps: Iterable[str], outs: Iterable[str]) -> bool:
    outs = list(outs)
    return any(
        dep == out or dep.startswith(f"{out}/") or out.startswith(f"{dep}/")
        for dep in deps
        for out in outs
    )


def _in_order(graph: Graph) -> list[str]:
    ordered: list[str] = []
    while len(ordered) < len(graph):
        ready = [n for n in graph if n not in ordered and set(graph[n].upstream) <= set(ordered)]
        assert ready, "dvc.yaml holds a cycle"
        ordered.append(ready[0])
    return ordered
