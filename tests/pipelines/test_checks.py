import json
import re
from pathlib import Path

import pytest

from pipelines.checks import claims_of, contracts, gate


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_the_gate_shows_the_verdict_of_the_promotion(tmp_path: Path) -> None:
    assert gate(tmp_path) == (False, {"reason": "`zreward promote` has not run"})
    write(tmp_path / "reports/promotion.json", {"passed": False, "reason": "worse by 3 points"})
    assert gate(tmp_path) == (False, {"reason": "worse by 3 points"})
    write(tmp_path / "reports/promotion.json", {"passed": True, "reason": ""})
    assert gate(tmp_path)[0]


def test_broken_and_missing_contracts_fail(tmp_path: Path) -> None:
    assert not contracts(tmp_path)[0]
    rules = [
        {"table": "ratings", "rule": "score within 1 and 5", "success": True},
        {"table": "items", "rule": "one row an item", "success": False},
    ]
    write(tmp_path / "data/validate/contracts.json", rules)
    passed, shown = contracts(tmp_path)
    table = re.sub(" +", " ", shown["contracts"].value)
    assert not passed and "| items | one row an item | no |" in table
    write(tmp_path / "data/validate/contracts.json", rules[:1])
    assert contracts(tmp_path)[0]


@pytest.mark.parametrize("claims", [True, False])
def test_claims_are_checked_only_if_the_profile_has_them(tmp_path: Path, claims: bool) -> None:
    (tmp_path / "params.yaml").write_text(f"claims: {str(claims).lower()}\n")
    passed, shown = claims_of("evaluate")(tmp_path)
    assert passed is (False if claims else None)  # nothing was measured, so no claim holds
    assert (shown["claims"] == "this profile has no claims") is not claims
