"""`zreward rubric`: the rubric as one page that annotators calibrate against."""

from pathlib import Path

from zreward_core.annotations.html import document, escape, image_tag, write_page
from zreward_core.annotations.label_studio.exemplars import FILE, Exemplar, load_exemplars
from zreward_core.rubric import Dimension, Rubric, load_rubric

PAGE = Path("reports/rubric.html")
EXPLAINED = 5
"""Exemplars of a level that are shown large, with words; the others are small."""
STYLE = """<style>
.level { display:grid; grid-template-columns:64px 280px 1fr; gap:18px; padding:14px 0;
         border-bottom:1px solid var(--line); break-inside:avoid; }
.level .score { font-size:30px; font-weight:700; color:var(--blue); line-height:1.1; }
.level.half .score { font-size:22px; color:var(--soft); }
.shown { display:flex; flex-wrap:wrap; gap:14px; align-items:flex-start; }
figure { margin:0; width:142px; } figcaption { font-size:12px; line-height:1.35; margin-top:4px; }
.small { display:flex; flex-wrap:wrap; gap:5px; margin-top:10px; }
.patterns { max-width:760px; margin:8px 0 12px; }
section { border-top:3px solid var(--ink); margin-top:40px; }
@media print { section { break-before:page; } }
</style>"""


def write_rubric_page(page: Path = PAGE) -> tuple[Path, int]:
    """Render data/rubric.yaml with its exemplars.

    Returns:
        The page and the number of exemplars on it (0: the folder was not made yet).

    Raises:
        UserError: the rubric or an exemplar is not what it should be.
    """
    rubric = load_rubric()
    folder = rubric.exemplars
    made = folder is not None and (folder / FILE).is_file()
    exemplars = load_exemplars(folder, rubric) if folder is not None and made else []
    contents = {one.image: (folder / one.image).read_bytes() for one in exemplars if folder}
    write_page(rubric_page(rubric, exemplars, contents), page)
    return page, len(exemplars)


def rubric_page(rubric: Rubric, exemplars: list[Exemplar], contents: dict[str, bytes]) -> str:
    """HTML of a rubric.

    Args:
        rubric: what is rated, and how.
        exemplars: images with agreed scores.
        contents: bytes of the images, by file name.
    """
    links = "".join(f'<a href="#{escape(d.name)}">{escape(d.title)}</a>' for d in rubric.dimensions)
    parts = [
        STYLE,
        f"<h1>Rubric: {escape(rubric.name)}</h1>",
        f"<p>Every image gets a score from {rubric.minimum:g} (worst) to {rubric.maximum:g} "
        f"(best) on each of {len(rubric.dimensions)} dimensions. Judge one dimension at a time and "
        "forget the others: an image may be the best in one and the worst in another. Start from "
        "the best score, take off what is wrong, then compare with the exemplars of that level and "
        "of its neighbours.</p>",
        f"<nav>{links}</nav>",
        ""
        if exemplars
        else '<p class="bad">No exemplars yet: run <code>zreward annotate</code> '
        "or name a folder under <code>exemplars</code> in data/rubric.yaml.</p>",
        *(_dimension(rubric, one, exemplars, contents) for one in rubric.dimensions),
    ]
    return document(f"Rubric: {rubric.name}", "\n".join(parts))


def _dimension(
    rubric: Rubric, dimension: Dimension, exemplars: list[Exemplar], contents: dict[str, bytes]
) -> str:
    levels = "".join(
        _level(rubric, dimension, level, exemplars, contents) for level in rubric.levels[::-1]
    )
    return (
        f'<section id="{escape(dimension.name)}"><h2>{escape(dimension.title)}</h2>'
        f"<p><b>{escape(dimension.question)}</b></p>"
        f"{_patterns(rubric, dimension)}{levels}</section>"
    )


def _patterns(rubric: Rubric, dimension: Dimension) -> str:
    if not dimension.patterns:
        return ""
    rows = "".join(
        f"<tr><td><b>{escape(one.name)}</b></td><td>{escape(one.text)}</td>"
        f"<td class=n>−{one.points:g}</td></tr>"
        for one in dimension.patterns
    )
    head = f"<tr><th>error</th><th>looks like</th><th class=n>off {rubric.maximum:g}</th></tr>"
    return f'<table class="patterns">{head}{rows}</table>'


def _level(
    rubric: Rubric,
    dimension: Dimension,
    level: float,
    exemplars: list[Exemplar],
    contents: dict[str, bytes],
) -> str:
    of_level = [one for one in exemplars if one.scores.get(dimension.name) == level]
    text = dimension.levels.get(level, "between its neighbours")
    large = "".join(_figure(one, dimension, contents) for one in of_level[:EXPLAINED])
    small = "".join(
        image_tag(contents[one.image], f"{one.prompt}: {_why(one, dimension)}", 48)
        for one in of_level[EXPLAINED:]
    )
    described = " half" if rubric.levels.index(level) % 2 and len(rubric.levels) % 2 else ""
    return (
        f'<div class="level{described}"><div class="score">{level:g}</div>'
        f'<div>{escape(text)}</div><div><div class="shown">{large}</div>'
        f'<div class="small">{small}</div></div></div>'
    )


def _figure(exemplar: Exemplar, dimension: Dimension, contents: dict[str, bytes]) -> str:
    image = image_tag(contents[exemplar.image], exemplar.prompt, 112)
    why = _why(exemplar, dimension)
    prompt = f'<span class="soft">{escape(exemplar.prompt)}</span>'
    return f"<figure>{image}<figcaption>{prompt}<br><b>{escape(why)}</b></figcaption></figure>"


def _why(exemplar: Exemplar, dimension: Dimension) -> str:
    return exemplar.why.get(dimension.name, "")
