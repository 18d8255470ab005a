"""The claims of a run, each with the stage whose numbers decide it."""

from dataclasses import asdict
from pathlib import Path

from zreward_core.config import read_params
from zreward_core.evaluation.claims import judge_claims
from zreward_core.schemas import read_json


def claims_of_run() -> list[dict[str, str | bool]]:
    """Judge what lies in data/; a stage that has not run yet shows nothing.

    Returns:
        Rows of stage, name, holds and detail; none where the profile claims nothing.
    """
    if not read_params().get("claims", True):
        return []
    metrics = _read("data/evaluate/metrics.json")
    tuning = _read("data/finetune_generator/metrics.json")
    gsb = _read("data/evaluate_gsb/gsb.json")
    return [asdict(claim) for claim in judge_claims(metrics, tuning, gsb)]


def _read(name: str) -> dict:
    path = Path(name)
    return read_json(path) if path.is_file() else {}
