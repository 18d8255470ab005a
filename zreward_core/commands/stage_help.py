"""What `zreward STAGE --help` adds: what the stage reads and writes, and its params."""

import textwrap
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from zreward_core.dvc import GRAPH, read_graph

WIDTH = 100


def stage_help(name: str, config: type[BaseModel], root: Path = Path(".")) -> str:
    """Files of a stage, from dvc.yaml, and the fields of its config with their defaults.

    Args:
        name: of the stage.
        config: its ``Config``.
        root: the project; without a dvc.yaml that has the stage, its files are left out.
    """
    parts = []
    graph = read_graph(root) if (root / GRAPH).is_file() else {}
    if name in graph:
        stage = graph[name]
        reads = [dep for dep in stage.deps if dep.startswith("data/")]
        parts = [_line("Reads", ", ".join(reads) or "params only"),
                 _line("Writes", ", ".join(stage.outs))]  # fmt: skip
    parts.append(f"Params, in the section {name} of params.yaml, and their defaults:")
    parts += [_field(key, field) for key, field in config.model_fields.items()]
    return "\n".join(parts)


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
