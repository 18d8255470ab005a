"""`zreward rubric`: the rubric as one page for calibrating annotators."""

from pathlib import Path

from zreward_core.annotations.label_studio.exemplars import FILE, load_exemplars
from zreward_core.pages.render import render, write_page
from zreward_core.rubric import load_rubric

PAGE = Path("reports/rubric.html")
EXPLAINED = 5
"""Exemplars of a level that are shown large, with an explanation; the others are small."""


def write_rubric_page(page: Path = PAGE) -> tuple[Path, int]:
    """Render data/rubric.yaml with its exemplars.

    Returns:
        The page and the number of exemplars on it (0: their folder does not exist yet).

    Raises:
        UserError: the rubric or an exemplar is invalid.
    """
    rubric = load_rubric()
    folder = rubric.exemplars
    made = folder is not None and (folder / FILE).is_file()
    exemplars = load_exemplars(folder, rubric) if folder is not None and made else []
    content = render(
        "rubric",
        title=f"Rubric: {rubric.name}",
        rubric=rubric,
        exemplars=exemplars,
        contents={one.image: (folder / one.image).read_bytes() for one in exemplars if folder},
        explained=EXPLAINED,
    )
    write_page(content, page)
    return page, len(exemplars)
