"""The tables of docs/real_size.md are those of the committed plans, and these are made anew."""

import importlib

import pytest

from tests.commands.plan_models import ROOT
from zreward_core.commands.plan.run import table
from zreward_core.commands.plan.stages import METHODS, PIPELINE
from zreward_core.config import UserError

script = importlib.import_module("benchmarks.plan")


def test_the_page_shows_the_committed_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = script.PAGE.read_text()
    assert text == script.rendered(text), "run python benchmarks/plan.py --render"
    for name in script.PLANS:
        assert table(script.read_plan(name)) in text


def test_a_changed_plan_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = script.PAGE.read_text()
    without = text.replace("| label |", "| other |")
    assert without != text and script.rendered(without) == text
    with pytest.raises(UserError, match="<!-- plan: eight_gpus -->"):
        script.rendered("# Real models")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", script.PLANS)
def test_a_new_plan_of_a_shipped_profile_fits_and_is_the_committed_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    content, committed = script.planned(name), script.read_plan(name)
    found = script.restored(content)
    assert [row.stage for row in found.rows] == list(METHODS if script.PLANS[name][1] else PIPELINE)
    assert all(found.fits(row) for row in found.rows), found.notes
    assert table(found) == table(committed), "run python benchmarks/plan.py"
