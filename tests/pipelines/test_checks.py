import json
import re
from pathlib import Path

import pytest
from dagster import AssetCheckKey, AssetKey, AssetSelection, DagsterInstance, materialize

from pipelines.checks import Check, check_definition, claims_of, contracts, evaluation, gate
from pipelines.dvc_assets import stage_asset
from zreward_core.dvc import read_graph


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
    assert not passed and "|items|1|1|" in shown["contracts"].value
    assert shown["result"] == "1 of 2 rules are broken"
    assert "|items|one row an item|no|" in shown["all rules, broken ones first"].value
    write(tmp_path / "data/validate/contracts.json", rules[:1])
    assert contracts(tmp_path)[0]


@pytest.mark.parametrize("claims", [True, False])
def test_claims_are_checked_only_if_the_profile_has_them(tmp_path: Path, claims: bool) -> None:
    (tmp_path / "params.yaml").write_text(f"claims: {str(claims).lower()}\n")
    passed, shown = claims_of("evaluate")(tmp_path)
    assert passed is (False if claims else None)  # nothing was measured, so no claim holds
    assert (shown["claims"] == "this profile has no claims") is not claims
    assert not claims or re.fullmatch(r"0 of \d claims hold", shown["result"])


def test_a_check_without_a_result_is_skipped_not_passed(
    root: Path, instance: DagsterInstance
) -> None:
    judged: list[bool | None] = [None, False]
    check = Check("first", "claims", "A claim.", False, lambda _: (judged.pop(0), {}))
    assets = [stage_asset(read_graph(root), "first", root)]
    checks = [check_definition(check, root)]
    key = AssetCheckKey(AssetKey("first"), "claims")
    found = []
    for _ in range(2):
        chosen = AssetSelection.checks(key)
        done = materialize([*assets, *checks], instance=instance, selection=chosen)
        assert done.success
        found.append([one.passed for one in done.get_asset_check_evaluations()])
    assert found == [[], [False]]
    assert evaluation(check._replace(judge=lambda _: (None, {})), root) is None
