"""`zreward audit`: the annotator audit as a page, with the images of the most disputed items."""

from pathlib import Path

from zreward_core.annotations.quality.audit_page import MAX_DISPUTED, audit_page
from zreward_core.commands.image_lookup import read_images
from zreward_core.pages.render import write_page
from zreward_core.rubric import load_rubric
from zreward_core.schemas import DISAGREEMENT, read_json, read_table

VALIDATED = Path("data/validate")
IMAGES = (Path("data/candidates/images"), Path("data/ingest/images"))
PAGE = Path("reports/audit.html")


def write_audit_page() -> Path:
    """Render the results of `validate`.

    Returns:
        The page.

    Raises:
        UserError: `validate` has not run.
    """
    audit = read_json(VALIDATED / "audit.json")
    places = {name: place for place, name in enumerate(load_rubric().names)}
    by_rubric = sorted(audit["alpha"], key=lambda name: places.get(name, len(places)))
    audit["alpha"] = {name: audit["alpha"][name] for name in by_rubric}  # JSON sorts its keys
    disputed = read_table(VALIDATED / "disagreement.parquet", DISAGREEMENT)
    shown = disputed["image_id"].head(MAX_DISPUTED).dropna()
    write_page(audit_page(audit, disputed, dict(read_images(shown, IMAGES))), PAGE)
    return PAGE
