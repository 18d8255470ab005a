"""The page of test and pool items in headless Chromium, with 10,000 items, as a file."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="pages: `pip install -e .[pages]` and an installed Chromium"
)
from playwright.sync_api import Browser, Page, expect  # noqa: E402

from tests.viewer_root import GENERATORS, HOSTILE, page_items, write_root  # noqa: E402
from zreward_core.commands.viewer import write  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
NUM_TEST, NUM_POOL = 9000, 2000
"""Half of the pool is shown."""
FRAME = """
content => {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.src = URL.createObjectURL(new Blob([content], { type: "text/html" }));
  document.body.replaceChildren(frame);
}
"""
FILTER = """
([name, value]) => {
  const form = document.getElementById("filters");
  form.elements[name].value = value;
  const begun = performance.now();
  form.dispatchEvent(new Event("input"));
  return performance.now() - begun;
}
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("viewer") / "root"
    write_root(root, NUM_TEST, NUM_POOL, num_images=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write()
    return root / "reports/viewer"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("pages: no Chromium is installed")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    made = browser.new_page(viewport={"width": 1440, "height": 900})
    made.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    errors: list[object] = []
    made.on("pageerror", lambda error: errors.append(error))
    yield made
    assert not errors
    assert made.evaluate("window.hacked") is None
    made.close()


def set_filter(page: Page, name: str, value: object) -> float:
    """Set a filter as a person does; returns the milliseconds until the list shows it."""
    return float(page.evaluate(FILTER, [name, str(value)]))


def test_it_is_quick_and_shows_only_what_is_in_view(page: Page, folder: Path) -> None:
    begun = time.monotonic()
    page.goto((folder / "index.html").as_uri())
    expect(page.locator(".item").first).to_be_visible()
    expect(page.locator("#detail section")).to_have_count(2)
    assert time.monotonic() - begun < 20  # 1.5 s on a quiet machine
    assert page.locator("#count").inner_text() == "10,000 of 10,000 items"
    about = page.locator("#about").inner_text()
    assert "1,000 pool items (a random sample of 2,000), rated by nobody: the teacher" in about
    assert set_filter(page, "sort", "annotators") < 2000  # .05 s
    assert set_filter(page, "text", "prompt 12") < 2000
    page.evaluate("document.getElementById('filters').reset()")
    page.evaluate("document.getElementById('list').scrollTop = 400000")
    expect(page.locator(".item .thumb img").first).to_be_visible()
    assert 5 < page.locator(".item").count() < 40


def test_filters_and_details_are_those_of_the_items(page: Page, folder: Path) -> None:
    shown = list(page_items(folder))
    page.goto((folder / "index.html").as_uri())
    count = page.locator("#count")
    error = lambda entry, d: abs(entry["student"][d] - (entry["score"][d] or 99))  # noqa: E731
    set_filter(page, "set", "test")
    set_filter(page, "dimension", 1)
    set_filter(page, "generator", 1)
    set_filter(page, "student_error", 1.5)
    kept = [
        (entry, details)
        for entry, details in shown
        if entry["is_test"] and entry["generator"] == GENERATORS[1] and error(entry, 1) >= 1.5
    ]
    expect(count).to_have_text(f"{len(kept):,} of 10,000 items")
    entry, details = max(kept, key=lambda one: error(one[0], 1))
    detail = page.locator("#detail")
    expect(detail).to_contain_text(entry["id"])
    assert page.locator(".item").first.get_attribute("aria-selected") == "true"
    section = detail.locator("section").first
    expect(section.locator("h2")).to_have_text("Realism")
    expect(section.locator(".means")).to_contain_text(f"student {entry['student'][1]:.2f}")
    assert section.locator(".trace").inner_text().strip() == details["traces"][1][0].strip()
    links = section.locator("a")
    expect(links).to_have_count(3)
    reference = details["ratings"][1][0][2].partition("#")
    assert links.first.inner_text() == f"{reference[0]}: {reference[2]}"
    assert links.first.get_attribute("href") == "../../data/drops/a%20b/1.csv"
    expect(section.locator("tr.out")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    second = sorted(kept, key=lambda one: -error(one[0], 1))[1][0]
    expect(detail).to_contain_text(second["id"])
    page.reload()  # the address names the view
    expect(count).to_have_text(f"{len(kept):,} of 10,000 items")
    expect(detail).to_contain_text(second["id"])


@pytest.mark.parametrize(
    ("sort", "first", "second"),
    [
        ("teacher_error", "teacher", "score"),
        ("models", "student", "teacher"),
        ("annotators", "highest", "lowest"),
        ("none", "student", "score"),
    ],
)
def test_a_row_shows_the_number_by_which_it_is_sorted(
    page: Page, folder: Path, sort: str, first: str, second: str
) -> None:
    page.goto((folder / "index.html").as_uri())
    set_filter(page, "set", "test")
    set_filter(page, "dimension", 1)
    set_filter(page, "sort", sort)
    name = (page.locator("#detail dd").first).inner_text()
    entry = next(entry for entry, _ in page_items(folder) if entry["id"] == name)
    number = f"{entry[first][1] - entry[second][1]:+.2f}".replace("-", "−")
    expect(page.locator(".item").first.locator(".strip small").nth(1)).to_have_text(number)


def test_pool_items_are_sorted_by_the_number_in_their_rows(page: Page, folder: Path) -> None:
    """Nobody rated them: by the student's difference from the teacher."""
    page.goto((folder / "index.html").as_uri())
    set_filter(page, "set", "pool")
    set_filter(page, "dimension", 1)
    first = page.locator(".item").first
    expect(first).to_contain_text("pool · ")
    shown = page.locator(".item .strip:nth-child(4) small").all_inner_texts()
    sizes = [float(text.lstrip("+−")) for text in shown]
    assert len(sizes) > 5 and sizes[0] > 0 and sizes == sorted(sizes, reverse=True)


def test_a_difference_that_rounds_to_zero_has_no_sign(page: Page, folder: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    nearly = "data.student[i][0] = data.score[i][0] - 0.001; return strip(i, 0).textContent;"
    script = "() => { const i = data.is_test.findIndex(Boolean); " + nearly + " }"
    assert page.evaluate(script) == "0.00"


def test_a_row_names_the_generator_without_its_folder(page: Page, folder: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    set_filter(page, "generator", 1)
    expect(page.locator(".item .what small").first).to_have_text("test · second steps=8")
    expect(page.locator("#detail")).to_contain_text(GENERATORS[1])


def test_markup_in_texts_is_shown_as_text(page: Page, folder: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    set_filter(page, "text", "window.hacked")
    expect(page.locator("#detail .prompt")).to_have_text(HOSTILE)
    expect(page.locator(".trace").first).to_have_text(HOSTILE)


def test_a_comparison_leads_to_the_other_item(page: Page, folder: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    set_filter(page, "text", "window.hacked")
    section = page.locator("#detail section").first
    expect(section).to_contain_text("score or comparison")
    expect(section).to_contain_text("tie with absent")
    other = section.locator("a:not([target])").first
    expect(other).to_have_count(1)
    identifier = other.inner_text()
    other.click()
    expect(page.locator("#detail dd").first).to_have_text(identifier)


def test_the_single_file_opens_in_a_sandbox(page: Page, folder: Path) -> None:
    """MLflow shows the pages among the artifacts of a run in such a frame."""
    page.evaluate(FRAME, (folder / "viewer.html").read_text())
    frame = page.frame_locator("iframe")
    expect(frame.locator("#detail section")).to_have_count(2)
    expect(frame.locator("#detail img")).to_have_js_property("naturalWidth", 32)
    expect(frame.locator("#detail a[target]")).to_have_count(0)
