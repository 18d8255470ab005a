"""Pages of Great Expectations that load nothing from the network.

Its pages need styles and scripts of a dozen addresses; without them the index is empty. Here they
become static pages with a small stylesheet of their own, and the index is a page of the project.
A Content-Security-Policy in each page forbids whatever else a page may name.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from zreward_core.annotations.quality.contracts import Contract
from zreward_core.pages.render import render, write_page

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
body { font:15px/1.5 system-ui,"DejaVu Sans",sans-serif; color:#1f2430; margin:24px 32px 60px; }
.row { display:flex; flex-wrap:wrap; } .col-lg-2 { flex:0 0 220px; } .col-lg-10 { flex:1 0 600px; }
.col-12 { width:100%; } .col-6 { width:50%; } .sticky, .sticky-top { position:static; }
.card, .alert { border:1px solid #e5e7eb; border-radius:3px; padding:8px 12px; margin:6px 0; }
.alert { background:#f3f4f6; } .h6, h5, h6 { font-size:15px; font-weight:600; margin:4px 0; }
ul, ol { list-style:none; padding:0; margin:4px 0; } a { color:#0072B2; }
table { border-collapse:collapse; width:100%; font-size:13.5px; }
td, th { border-bottom:1px solid #e5e7eb; padding:5px 9px; text-align:left; vertical-align:top; }
.text-success { color:#11734b; } .text-danger { color:#B23A00; }
.fa-check-circle::before { content:"\\2713"; } .fa-times::before { content:"\\2717"; }
.modal, .btn, .card:has(.btn-group), [data-toggle=collapse] { display:none; }
"""
_ELEMENTS = re.compile(r"<(script|style|footer)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAGS = re.compile(r"<(?:link|img)\b[^>]*>", re.IGNORECASE)


def make_offline(docs: Path, contracts: Sequence[Contract]) -> None:
    """Rewrite the pages in a folder, and its index.

    Args:
        docs: Data Docs of Great Expectations, with one suite for each contract, of the same name.
    """
    shutil.rmtree(docs / "static", ignore_errors=True)
    head = f'<head><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    for page in docs.rglob("*.html"):
        content = _TAGS.sub("", _ELEMENTS.sub("", page.read_text(encoding="utf-8")))
        write_page(content.replace("<head>", f"{head}<style>{STYLE}</style>", 1), page)
    index = render("data_docs", title="Data Docs", contracts=[_shown(docs, c) for c in contracts])
    write_page(index.replace("<head>", head, 1), docs / "index.html")


def _shown(docs: Path, contract: Contract) -> dict[str, object]:
    """A contract, as the template shows it."""
    pages = [*docs.glob(f"validations/{contract.name}/**/*.html")]
    pages += docs.glob(f"expectations/{contract.name}.html")
    return {
        "name": contract.name,
        "file": str(contract.file),
        "num_rows": f"{contract.num_rows:,}",
        "passed": not contract.faults(),
        "rules": [(one.rule, one.num_broken) for one in contract.checks],
        "pages": [(page.relative_to(docs).parts[0], page.relative_to(docs)) for page in pages],
    }
