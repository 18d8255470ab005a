"""docs/benchmarks.md has every set, rule and source."""

from pathlib import Path

import pytest

from zreward_core.commands.benchmark.sets import SETS

PAGE = (Path(__file__).parents[3] / "docs/benchmarks.md").read_text().replace("`", "")


@pytest.mark.parametrize("name", SETS)
def test_the_table_has_every_rule_and_its_source(name: str) -> None:
    lines = PAGE.splitlines()
    assert any(line.startswith("|") and name in line for line in lines)
    for rule in SETS[name].rules:
        rows = [line for line in lines if line.startswith("|") and rule.name in line]
        assert rows, rule.name
        repository = rule.source.split(",")[0]
        if "/" in repository:
            assert any(repository in row for row in rows), rule.source
