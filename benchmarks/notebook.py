"""Write docs/tutorial.ipynb from docs/tutorial.md.

    python benchmarks/notebook.py

The page is the source of both: its blocks `python` and `sh` become cells, the rest becomes text.
"""

import re
from pathlib import Path
from typing import Any

from zreward_core.schemas import write_json

PAGE, NOTEBOOK = Path("docs/tutorial.md"), Path("docs/tutorial.ipynb")
_BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)[^)]*\)")


def main() -> None:
    """Write the notebook."""
    write_json(notebook(PAGE.read_text()), NOTEBOOK)


def notebook(page: str) -> dict[str, Any]:
    """The page as a notebook, format 4.5; links become the names of the repository's pages."""
    cells, end = [], 0
    for found in _BLOCK.finditer(page):
        cells += [_text(page[end : found.start()]), _code(*found.groups())]
        end = found.end()
    cells.append(_text(page[end:]))
    numbered = [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells) if cell]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": numbered,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _text(content: str) -> dict[str, Any]:
    if not content.strip():
        return {}
    source = _LINK.sub(r"\1 (docs/\2 of the repository)", content.strip()).splitlines(keepends=True)
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(kind: str, content: str) -> dict[str, Any]:
    if kind == "sh":
        commands = content.strip().replace("\\\n", "").splitlines()
        content = "\n".join("!" + re.sub(r" {2,}", " ", command) for command in commands)
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": content.strip().splitlines(keepends=True),
    }


if __name__ == "__main__":
    main()
