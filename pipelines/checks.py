"""Asset checks: results of the contracts, the promotion gate and the claims."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    MetadataValue,
    multi_asset_check,
)

from pipelines.tables import markdown_table, read
from zreward_core.dvc import environment, program

Verdict = tuple[bool | None, dict[str, Any]]
"""Whether the check passed, None if there was nothing to check; and what it shows."""


class Check(NamedTuple):
    """A check of an asset."""

    asset: str
    name: str
    description: str
    blocking: bool
    """Whether a failure is an error that stops downstream assets, or a warning."""
    judge: Callable[[Path], Verdict]


def contracts(root: Path) -> Verdict:
    """Great Expectations results, written by `validate`."""
    rules = read(root / "data/validate/contracts.json")
    if rules is None:
        return False, {"contracts": "data/validate/contracts.json not found: run validate"}
    if not rules:
        return None, {"contracts": "there is no table to check"}
    broken = [rule for rule in rules if not rule["success"]]
    counts = Counter(rule["table"] for rule in rules)
    failed = Counter(rule["table"] for rule in broken)
    tables = [[name, number, failed[name]] for name, number in counts.items()]
    ordered = sorted(rules, key=lambda rule: rule["success"])
    rows = [[rule["table"], rule["rule"], rule["success"]] for rule in ordered]
    return not broken, {
        "contracts": MetadataValue.md(markdown_table(["table", "rules", "broken"], tables)),
        "all rules, broken ones first": MetadataValue.md(
            markdown_table(["table", "rule", "holds"], rows, 10**6)
        ),
        "result": f"{len(broken)} of {len(rules)} rules are broken",
        "rules": len(rules),
    }


def claims_of(stage: str) -> Callable[[Path], Verdict]:
    """The claims about a stage's results, from `zreward claims`."""

    def judge(root: Path) -> Verdict:
        done = subprocess.run(
            [program("zreward"), "claims", "--json"],
            cwd=root, env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        claims = [claim for claim in json.loads(done.stdout) if claim["stage"] == stage]
        if not claims:
            return None, {"claims": "this profile has no claims"}
        rows = [[claim["name"], claim["holds"], claim["detail"]] for claim in claims]
        table = MetadataValue.md(markdown_table(["claim", "holds", ""], rows))
        held = sum(claim["holds"] for claim in claims)
        shown = {"result": f"{held} of {len(claims)} claims hold", "claims": table}
        return held == len(claims), shown

    return judge


def gate(root: Path) -> Verdict:
    """The verdict of the promotion gate."""
    record = read(root / "reports/promotion.json") or {"reason": "`zreward promote` has not run"}
    return bool(record.get("passed")), {"reason": record.get("reason") or "passed"}


CHECKS = (
    Check("validate", "contracts", "Great Expectations: ratings, items, pairs, within the rubric.",
          True, contracts),
    Check("evaluate", "learning_claims", "Teacher and student are better than their bases.",
          False, claims_of("evaluate")),
    Check("promotion", "gate", "The candidate is at most `promote.margin` worse than the champion.",
          True, gate),
    Check("finetune_generator", "hacking_panel", "The reward rises, and so do the scores of a "
          "panel that is not trained on.", False, claims_of("finetune_generator")),
    Check("evaluate_gsb", "blind_judge", "The tuned generator wins the blind comparison.",
          False, claims_of("evaluate_gsb")),
)  # fmt: skip


def check_definition(check: Check, root: Path) -> AssetChecksDefinition:
    """The asset check; it runs after its asset, or alone. Dagster shows one without a result as
    skipped."""

    @multi_asset_check(
        name=f"{check.asset}_{check.name}",
        specs=[AssetCheckSpec(check.name, asset=AssetKey(check.asset),
                              description=check.description, blocking=check.blocking)],
        can_subset=True,  # a check may have no result
    )  # fmt: skip
    def body(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        passed, metadata = check.judge(root)
        if passed is None:
            context.log.info(f"{check.name} is skipped: {metadata}")
            return
        yield AssetCheckResult(passed=passed, severity=_severity(check), metadata=metadata)

    return body


def evaluation(check: Check, root: Path) -> AssetCheckEvaluation | None:
    """The result as an event, for an asset that was made outside Dagster; None if skipped."""
    passed, metadata = check.judge(root)
    if passed is None:
        return None
    return AssetCheckEvaluation(
        asset_key=AssetKey(check.asset), check_name=check.name, passed=passed,
        severity=_severity(check), metadata=metadata,
    )  # fmt: skip


def _severity(check: Check) -> AssetCheckSeverity:
    return AssetCheckSeverity.ERROR if check.blocking else AssetCheckSeverity.WARN
