"""The documentation site: strict build, links, no assets of other servers; the notebook's cells."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from benchmarks.notebook import NOTEBOOK, PAGE, notebook
from benchmarks.shots import PLACE, SHOTS, fill
from docs.site import PAGES
from zreward_core.schemas import read_json

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """Anchors, links and loaded files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        elif tag in ("link", "script", "img", "iframe") and found.get("rel") != "canonical":
            self.loaded |= {found[name] for name in ("href", "src") if name in found}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors, such as a link to a page that does not exist."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        folder,
    ]  # --quiet hides warnings
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path.resolve(): Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(found) > 20
    return found


def test_every_link_leads_to_a_file_and_an_anchor(pages: dict[Path, Page]) -> None:
    wrong = []
    for path, page in pages.items():
        for link in page.links | page.loaded:
            address, anchor = urldefrag(unquote(link))
            if re.match(r"[a-z]+:", address):
                continue
            target = (path.parent / address).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (
                anchor and target in pages and anchor not in pages[target].anchors
            ):
                wrong.append((path.name, link))
    assert not wrong


def test_nothing_is_loaded_from_another_server(site: Path, pages: dict[Path, Page]) -> None:
    assert not {one for page in pages.values() for one in page.loaded if "//" in one}
    styles = {path: path.read_text() for path in site.rglob("*.css")}
    remote = re.compile(r"url\(\W?(https?:)?//|@import")
    assert styles and not [path for path, text in styles.items() if remote.search(text)]


def test_every_file_of_the_repository_that_is_linked_exists() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "zreward_core/project/README.md"]
    for path in texts:
        prose = re.sub(r"```.*?```|`[^`\n]+`", "", path.read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)\s#]+)", prose):
            if "://" not in link:
                assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_every_page_of_the_repository_that_is_linked_is_on_the_site() -> None:
    for path in [*map(ROOT.joinpath, PAGES), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\(([^)\s#]+\.md)", path.read_text()):
            target = (path.parent / link).resolve().relative_to(ROOT).as_posix()
            on_site = target in PAGES or target.startswith("docs/")
            assert on_site or target.endswith("project/README.md"), f"{path.name}: {link}"


def test_the_notebook_has_the_cells_of_the_page() -> None:
    assert read_json(ROOT / NOTEBOOK) == notebook((ROOT / PAGE).read_text()), (
        "run python benchmarks/notebook.py"
    )


def test_every_place_for_a_screenshot_names_one_and_is_filled_by_its_image() -> None:
    for path in ROOT.glob("docs/*.md"):
        text = path.read_text()
        for name, caption in PLACE.findall(text):
            assert name in SHOTS, f"{path.name}: {name}"
            assert f"\n![{caption}](images/{name}.png)\n" in fill(text, name)
