"""The pages that need no `make ui`: audit, rubric, Data Docs, comparison, the server's form.

They show the workspace named in ZREWARD_PAGES_WORKSPACE, or the sample data and a model of random
weights. Screenshots are saved in `build/pages`.
"""

import os
from pathlib import Path

import pandas as pd
import pytest

from tests.commands.serving import running_server
from tests.commands.test_score import zreward
from tests.pages.test_pages import Page, browser, expect, page, shot
from tests.tiny_models import PROMPT, SIZES
from tests.viewer_root import write_root
from zreward_core import RewardModel
from zreward_core.annotations.label_studio.exemplars import write_exemplars
from zreward_core.commands import viewer
from zreward_core.commands.init import init_project
from zreward_core.commands.scoring.compare import compare_sources
from zreward_core.commands.serving.app import server_app
from zreward_core.models.requests import RequestScorer
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric
from zreward_core.stages import annotate

__all__ = ["browser", "page"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SAMPLE = Path(__file__).parents[2] / "zreward_core/project/data/drops/example"
EXAMPLE = Path("params/example.yaml")
TALL = 1800
ROWS = 879
"""Height of a window that shows whole rows of the viewer's list."""
CENTRE = "one => { const box = one.getBoundingClientRect(); return box.left + box.width / 2; }"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which `validate` has run and exemplars are written."""
    if named := os.environ.get("ZREWARD_PAGES_WORKSPACE"):
        return Path(named)
    folder = tmp_path_factory.mktemp("reports") / "project"
    init_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZREWARD_TRACKING", "off")
        for stage in ("ingest", "validate"):
            done = zreward(stage, "--params", str(EXAMPLE), cwd=folder)
            assert done.returncode == 0, done.stderr
        patch.chdir(folder)
        rubric, config = load_rubric(), annotate.Config.load("annotate", EXAMPLE)
        exemplars = annotate.make_exemplars(study()["prompt"], rubric, config)
        write_exemplars(exemplars, Path("data/annotate/exemplars"))
    return folder


@pytest.fixture(scope="module")
def model(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace's student, or one of random weights."""
    student = root / "data/train_risd/student"
    if not student.is_dir():
        student = tmp_path_factory.mktemp("model") / "student"
        rubric = load_rubric(root / "data/rubric.yaml")
        prompts = study()["prompt"].tolist()
        build_backbone(SIZES, prompts, rubric, PROMPT, seed=0).save(student, {})
    return student


@pytest.fixture(scope="module")
def items(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The viewer's page of the workspace, or of random items."""
    if not (root / "data/evaluate/predictions.parquet").is_file():
        root = tmp_path_factory.mktemp("viewer") / "root"
        write_root(root, 40, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        viewer.write()
    return root / "reports/viewer/index.html"


def study() -> pd.DataFrame:
    """Images of the sample data: generator, image, prompt."""
    ratings = pd.read_excel(SAMPLE / "ratings.xlsx", sheet_name="Ratings", header=2)
    images = ratings.drop_duplicates("File").rename(columns=str.lower)
    names = images["file"].str.replace("C:\\study\\images\\", "").str.replace("\\", "/")
    images["image"] = [str(SAMPLE / "images" / name) for name in names]
    return images[["model", "image", "prompt"]]


def visit(page: Page, address: str, name: str, *texts: str, height: int = TALL) -> None:
    """Open a page and save its screenshot; it must fit the window and request nothing else."""
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address)
    for text in texts:
        expect(page.get_by_text(text).first).to_be_visible()
    fits(page)
    shot(page, name, height=height)
    own = address.rpartition("/")[0]
    assert not [url for url in requested if not url.startswith((own, "data:", "blob:"))]


def fits(page: Page) -> None:
    """Nothing is cut off at the right, nor on paper."""
    root = "document.documentElement"
    for media, width in (("screen", 1440), ("print", 1000)):  # A4 landscape without its margins
        page.emulate_media(media=media)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), media
    page.emulate_media(media="screen")


def test_the_audit(page: Page, root: Path) -> None:
    assert zreward("audit", cwd=root).returncode == 0
    heading = "Most disputed items"
    visit(page, (root / "reports/audit.html").as_uri(), "audit", "All annotators", heading)
    expect(page.locator("tr img").first).to_have_js_property("complete", True)


def test_the_rubric(page: Page, root: Path) -> None:
    assert zreward("rubric", cwd=root).returncode == 0
    titles = [one.title for one in load_rubric(root / "data/rubric.yaml").dimensions]
    visit(page, (root / "reports/rubric.html").as_uri(), "rubric", *titles)
    assert page.locator("section img").count() >= 16


def test_the_data_docs(page: Page, root: Path) -> None:
    address = (root / "reports/data_docs/index.html").as_uri()
    visit(page, address, "data_docs", "ratings", "items", "pairs", height=900)


def test_the_viewer(page: Page, items: Path) -> None:
    address = f"{items.as_uri()}#set=test&dimension=0&sort=teacher_error"
    visit(page, address, "viewer", "teacher minus annotators", height=ROWS)


def test_a_comparison_of_two_generators(page: Page, model: Path, tmp_path: Path) -> None:
    for version, rows in study().groupby("model"):
        rows[["image", "prompt"]].to_csv(tmp_path / f"{version}.csv", index=False)
    sides = [tmp_path / "v1.csv", tmp_path / "v3.csv"]
    output = tmp_path / "comparison.html"
    compare_sources(sides, output, str(model), 3)
    visit(page, output.as_uri(), "comparison", "Differences and win rates", "v3 minus v1")
    expect(page.locator("img").first).to_have_js_property("complete", True)


def test_the_form_of_the_server(page: Page, model: Path) -> None:
    row = study().iloc[-1]
    app = server_app(RequestScorer(RewardModel.from_pretrained(model)))
    with running_server(app) as (address, _):
        page.goto(f"{address}/docs")
        page.fill("#prompt", row["prompt"])
        page.set_input_files("#image", row["image"])
        preview = page.locator("#preview.exact")  # of 32 pixels
        assert (preview.bounding_box() or {})["height"] >= 200
        centres = [page.locator(one).evaluate(CENTRE) for one in ("#drop", "#image", "#preview")]
        assert max(centres) - min(centres) < 1
        page.click("button")
        expect(page.locator("#answer table")).to_be_visible()
        fits(page)
        shot(page, "server_form", height=1100)
