"""The audit and the annotators' guide on paper, in headless Chromium."""

import re
from pathlib import Path

import pandas as pd
import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="pages: `pip install -e .[pages]` and an installed Chromium"
)
from playwright.sync_api import Browser  # noqa: E402

from tests.annotations.conftest import rubric  # noqa: E402
from tests.annotations.quality.test_audit_page import audit  # noqa: E402
from tests.pages.test_viewer import browser  # noqa: E402
from zreward_core.annotations.quality.audit_page import audit_page  # noqa: E402
from zreward_core.commands.rubric_page import write_rubric_page  # noqa: E402
from zreward_core.schemas import DISAGREEMENT  # noqa: E402

__all__ = ["audit", "browser", "rubric"]  # fixtures
A4 = {"594 841", "595 841", "595 842", "596 842"}
"""Width and height in points, as it is rounded."""
pytestmark = pytest.mark.slow


def printed(browser: Browser, page: Path) -> list[str]:
    """Width and height in points of each sheet."""
    made = browser.new_page()
    made.goto(page.as_uri())
    assert made.locator("nav").count() == 0 or made.locator("nav").is_visible()
    made.emulate_media(media="print")
    assert not made.locator("nav").is_visible()
    content = made.pdf(prefer_css_page_size=True).decode("latin-1")
    made.close()
    boxes = re.findall(r"/MediaBox \[0 0 (\d+)[.\d]* (\d+)[.\d]*\]", content)
    return [" ".join(box) for box in boxes]


def test_each_dimension_of_the_guide_begins_a_sheet(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["alignment", "realism", "aesthetics"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    parts = [
        f"  - {{name: {n}, title: {n}, question: q, levels: {{1: bad, 5: good}}}}\n" for n in names
    ]
    head = "name: r\nlevels: [1, 2, 3, 4, 5]\nlabels: [a, b, c, d, e]\ndimensions:\n"
    (tmp_path / "data/rubric.yaml").write_text(head + "".join(parts))
    page, _ = write_rubric_page()
    assert len(printed(browser, page.absolute())) == len(names)


def test_the_wide_table_of_the_audit_is_printed_across(
    browser: Browser, tmp_path: Path, audit: dict
) -> None:
    page = tmp_path / "audit.html"
    page.write_text(audit_page(audit, pd.DataFrame(columns=DISAGREEMENT.names)))
    sheets = printed(browser, page)
    assert sheets and {" ".join(reversed(sheet.split())) for sheet in sheets} <= A4
