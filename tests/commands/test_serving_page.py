"""The server's page in Chromium: it loads nothing from elsewhere, and scores a dropped image."""

import re
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, visit
from tests.commands.serving import b64, png, running_server, tiny_model
from zreward_core.commands.serving.app import server_app
from zreward_core.models.requests import RequestScorer

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
DROP = """(content) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
  const drop = document.getElementById("drop");
  drop.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""


def test_the_page_requests_nothing_from_elsewhere(tmp_path: Path) -> None:
    with running_server(server_app(RequestScorer(tiny_model()))) as (address, _):
        html, requested = visit(f"{address}/docs", tmp_path)
    assert "/v1/score" in html
    assert requested <= {f"{address}/docs", f"{address}/docs/page.js", f"{address}/favicon.ico"}
    assert f"{address}/docs/page.js" in requested


def test_a_dropped_image_is_scored() -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    model, image = tiny_model(), png()
    expected = model.score("a red circle", image)
    app = server_app(RequestScorer(model), token="secret")
    with running_server(app) as (address, _), playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        faults: list[str] = []
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.goto(f"{address}/docs")
        page.fill("#prompt", "a red circle")
        page.fill("#token", "secret")
        page.evaluate(DROP, b64(image))
        page.click("button")
        page.wait_for_selector("#answer table")
        text = page.inner_text("#answer")
        browser.close()
    numbers = [float(number) for number in re.findall(r"\d\.\d{3}", text)]
    assert numbers[0] == pytest.approx(expected.overall.item(), abs=1e-3)
    assert all(name in text for name in model.dimensions)
    assert [fault for fault in faults if "favicon" not in fault and "404" not in fault] == []
