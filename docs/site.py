"""Hook of mkdocs.yml: pages from files outside docs/, and links between them.

A link to a file of the repository that is not a page becomes plain text, because the site does not
contain it. A link to a file that does not exist is left as it is: the build reports it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/LOG.md": "log.md",
    "benchmarks/REPORT.md": "report.md",
}
"""File of the repository to its page."""
IMAGES = "benchmarks/images"
_LINK = re.compile(r"(```.*?```|`[^`\n]+`)|(!?)\[((?:`[^`]+`|[^\]])*)\]\(([^)\s]+)\)", re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and images from outside docs/."""
    sources = dict(PAGES)
    sources |= {f"{IMAGES}/{path.name}": path.name for path in (ROOT / IMAGES).glob("*.png")}
    for source, target in sources.items():
        target = target if source in PAGES else f"{IMAGES}/{target}"
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page, which are those of its file in the repository."""
    uri = page.file.src_uri
    origin = next((source for source, target in PAGES.items() if target == uri), f"docs/{uri}")

    def rewritten(found: re.Match) -> str:
        code, mark, text, link = found.groups()
        if code or "://" in link or link.startswith(("#", "mailto:")):
            return found[0]
        name, _, anchor = link.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), name))
        target = PAGES.get(path) or path.removeprefix("docs/")
        if files.get_file_from_path(target) is not None:
            here = posixpath.relpath(target, posixpath.dirname(uri) or ".")
            return f"{mark}[{text}]({here}{'#' if anchor else ''}{anchor})"
        return text if (ROOT / path).exists() else found[0]

    return _LINK.sub(rewritten, markdown)
