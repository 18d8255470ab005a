"""What `zreward STAGE --help` adds: what the stage reads and writes, and its params."""

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from zreward_core.commands.init import carried_files
from zreward_core.dvc import GRAPH, read_graph

WIDTH = 100


def stage_help(module: ModuleType, root: Path = Path(".")) -> str:
    """Files of a stage and the fields of its config with their defaults.

    The files are those in the project's dvc.yaml, or in the one that the package carries; those of
    a compared method, which has no stage there, are the paths of its module.

    Args:
        module: of the stage.
        root: the project, or any other folder.
    """
    name = module.__name__.rpartition(".")[2]
    graph = read_graph(_carried_graph().parent)
    if (root / GRAPH).is_file():
        graph |= read_graph(root)
    if name in graph:
        reads = [dep for dep in graph[name].deps if dep.startswith("data/")]
        writes = list(graph[name].outs)
    else:
        reads, writes = inputs_of(module), [str(module.OUTPUT)]
    parts = [
        _line("Reads", ", ".join(reads) or "params only"),
        _line("Writes", ", ".join(writes)),
        f"Params, in the section {name} of params.yaml, and their defaults:",
    ]
    parts += [_field(key, field) for key, field in module.Config.model_fields.items()]
    return "\n".join(parts)


def inputs_of(module: ModuleType) -> list[str]:
    """Paths below data/ that a stage reads, from its module.

    These are the constants that are paths, in the module and in those of its ``Config``'s bases;
    of stages/_training.py, which is imported as ``shared``, only those that the stage's code names;
    and the defaults of the ``Config``.
    """
    shared, config = getattr(module, "shared", None), module.Config
    named = re.findall(r"\bshared\.([A-Z_]+)\b", inspect.getsource(module))
    values = [getattr(shared, name) for name in named]
    for owner in (module, *(sys.modules[base.__module__] for base in config.__mro__)):
        if owner is not shared:
            constants = {name for name in vars(owner) if name.isupper()} - {"OUTPUT"}
            values += [getattr(owner, name) for name in constants]
    values += [field.default for field in config.model_fields.values()]
    found = {path for value in values for path in _paths(value) if path.parts[:1] == ("data",)}
    return sorted(str(path) for path in found if found.isdisjoint(path.parents))


def _paths(value: object) -> Iterator[Path]:
    """A path, or the paths of a tuple."""
    if isinstance(value, tuple):
        for one in value:
            yield from _paths(one)
    elif isinstance(value, Path):
        yield value


def _carried_graph() -> Path:
    return next(path for name, path in carried_files() if name == str(GRAPH))


def _field(name: str, field: FieldInfo) -> str:
    default = (
        "required" if field.is_required() else _value(field.get_default(call_default_factory=True))
    )
    first = (field.description or "").partition(". ")[0].rstrip(".")
    return _line(f"  {name} = {default}", " ".join(first.split()))


def _value(default: object) -> str:
    text = str(default.model_dump() if isinstance(default, BaseModel) else default)
    return textwrap.shorten(text, 40, placeholder=" ...")


def _line(head: str, text: str) -> str:
    return textwrap.fill(f"{head}: {text}" if text else head, WIDTH, subsequent_indent="      ")
