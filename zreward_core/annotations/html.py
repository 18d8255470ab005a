"""Self-contained pages: one HTML file with its style and images inside, nothing fetched."""

import base64
import html
import os
from pathlib import Path

STYLE = """
:root { --ink:#1f2430; --soft:#6b7280; --line:#e5e7eb; --blue:#0072B2; --red:#B23A00; }
* { box-sizing:border-box; }
body { font:15px/1.5 system-ui,"DejaVu Sans",sans-serif; color:var(--ink); margin:0 auto;
       max-width:1240px; padding:28px 32px 60px; background:#fff; }
h1 { font-size:26px; margin:0 0 4px; } h2 { font-size:19px; margin:34px 0 8px; }
p { margin:6px 0; } .soft { color:var(--soft); } .bad { color:var(--red); font-weight:600; }
nav a { margin-right:16px; } a { color:var(--blue); }
table { border-collapse:collapse; width:100%; font-size:13.5px; }
th { text-align:left; font-weight:600; color:var(--soft); border-bottom:2px solid var(--line);
     padding:5px 9px; vertical-align:bottom; }
td { border-bottom:1px solid var(--line); padding:5px 9px; vertical-align:middle; }
td.n,th.n { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap; }
tr.out td { background:#fff4ef; }
img { image-rendering:pixelated; border:1px solid var(--line); border-radius:3px; }
.wide { overflow-x:auto; } .row { display:flex; flex-wrap:wrap; gap:28px; }
svg text { font:11.5px system-ui,"DejaVu Sans",sans-serif; fill:var(--ink); }
"""


def escape(text: object) -> str:
    """Text as it may stand in HTML, in an attribute too."""
    return html.escape(str(text), quote=True)


def document(title: str, body: str) -> str:
    """A whole page around a body."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def image_tag(content: bytes, label: str, size: int) -> str:
    """An ``img`` with the image inside, ``size`` pixels wide and high at most."""
    kind = "jpeg" if content[:2] == b"\xff\xd8" else "webp" if content[8:12] == b"WEBP" else "png"
    data = base64.b64encode(content).decode()
    style = f"width:{size}px;height:{size}px;object-fit:contain"
    text = escape(label)
    return (
        f'<img src="data:image/{kind};base64,{data}" style="{style}" alt="{text}" title="{text}">'
    )


def write_page(content: str, path: Path) -> None:
    """Write a page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, path)
