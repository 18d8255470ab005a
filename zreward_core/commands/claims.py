"""`zreward claims` and `zreward summary`: results of the last run."""

from dataclasses import asdict
from pathlib import Path

from zreward_core.config import read_params
from zreward_core.evaluation.claims import Claim, judge_claims
from zreward_core.schemas import read_json

METRICS = Path("data/evaluate/metrics.json")
TUNING = Path("data/finetune_generator/metrics.json")
GSB = Path("data/evaluate_gsb/gsb.json")
PROMOTION = Path("reports/promotion.json")
VIEWER = Path("reports/viewer/index.html")
SHIPPED_BASES = Path("data/bases")
OVER_BASES = Path("docs/runs/bases.json")
"""Figures of whole runs on base models of several seeds, made by benchmarks/bases.py."""
IMAGES = {
    "world/contact_sheet.png": "the world and its defects",
    "evaluate/examples.png": "images with score distributions and traces",
    "evaluate/hpa.png": "HPA of each model by dimension, with intervals",
    "evaluate/reliability.png": "calibration of the scores",
    "finetune_generator/contact_sheet.png": "samples before and after tuning",
    "evaluate_gsb/contact_sheet.png": "the pairs of the blind comparison",
}
"""Image under data/ to its description, listed in the summary."""


def claims_of_run() -> list[dict[str, str | bool]]:
    """Check the claims against the results in data/; a stage that has not run fails its claims.

    Returns:
        Rows of stage, name, holds and detail; none if params.yaml sets ``claims: false``.
    """
    found = (read_json(path) if path.is_file() else {} for path in (METRICS, TUNING, GSB))
    return [asdict(claim) for claim in _claims(*found)]


def print_summary() -> None:
    """Print the results of the last run and list its images.

    Raises:
        UserError: a stage whose results are printed has not run.
    """
    from rich.console import Console

    from zreward_core.evaluation.summary import summary_table

    metrics, tuning, gsb = (read_json(path) for path in (METRICS, TUNING, GSB))
    console = Console()
    claims = _claims(metrics, tuning, gsb)
    console.print(summary_table(metrics, gsb, claims, bases_of_demo()))
    if PROMOTION.is_file():
        console.print(f"Promotion: {read_json(PROMOTION)['summary']}", highlight=False)
    console.print("Images in", Path("data").resolve())
    for name, description in IMAGES.items():
        console.print(f"  {name:<44} {description}", highlight=False)
    if VIEWER.is_file():
        console.print("Test and pool items:", VIEWER.resolve().as_uri(), soft_wrap=True)


def bases_of_demo() -> list[dict[str, float]]:
    """Figures of the demo on base models of several seeds; none if it does not use data/bases."""
    used = read_params().get("base_vlm", {}).get("student", {}).get("path") or ""
    shipped = Path(used).is_relative_to(SHIPPED_BASES) and OVER_BASES.is_file()
    return read_json(OVER_BASES) if shipped else []


def _claims(metrics: dict, tuning: dict, gsb: dict) -> list[Claim]:
    return judge_claims(metrics, tuning, gsb) if read_params().get("claims", True) else []
