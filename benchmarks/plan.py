"""Put the plans of the shipped profiles into docs/real_size.md.

    python benchmarks/plan.py

It makes the plans anew (minutes for each) and writes them to docs/runs/plan_PROFILE.json and into
the page, between markers. `--render` rewrites the page from the committed files alone.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zreward_core.commands.plan.rows import Machine, Row
from zreward_core.commands.plan.run import Plan, make_plan, record, table
from zreward_core.commands.plan.stages import METHODS
from zreward_core.commands.plan.use import Use
from zreward_core.config import UserError
from zreward_core.schemas import read_json, write_json

PAGE = Path("docs/real_size.md")
FIGURES = Path("docs/runs")
MACHINE = Machine(8, 80e9, 300e12, 2e12, 750)
"""The defaults of `zreward plan`."""
PLANS: dict[str, tuple[str, Sequence[str]]] = {
    "eight_gpus": ("eight_gpus", ()),
    "paper": ("paper", ()),
    "paper_methods": ("paper", tuple(METHODS)),
}
"""Name of a table to its profile and stages, the pipeline's if there are none."""
ASSUMED = "files that are not there"
"""Start of a note that the page has as a sentence."""


def main() -> None:
    """Make the plans, unless only the page is asked for, and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--render", action="store_true", help="leave docs/runs as it is")
    if not parser.parse_args().render:
        for name in PLANS:
            write_json(planned(name), figures(name))
    PAGE.write_text(rendered(PAGE.read_text()))


def figures(name: str) -> Path:
    """The file of a plan."""
    return FIGURES / f"plan_{name}.json"


def planned(name: str) -> dict[str, Any]:
    """The rows and notes of a plan, made anew."""
    profile, stages = PLANS[name]
    plan = make_plan(profile, MACHINE, stages=stages)
    notes = [note for note in plan.notes if not note.startswith(ASSUMED)]
    rows = record(plan)
    for row in rows:  # keys of a file are sorted, phases are not
        row["phases"] = [{"phase": phase, **use} for phase, use in row.pop("moments").items()]
    return {"rows": rows, "notes": notes}


def read_plan(name: str) -> Plan:
    """A plan from its file."""
    return restored(read_json(figures(name)))


def restored(content: dict[str, Any]) -> Plan:
    """A plan from what ``planned`` has found."""
    rows = list[Row]()
    for entry in content["rows"]:
        values = {key: value for key, value in entry.items() if key not in ("fits", "phases")}
        uses = [dict(use) for use in entry["phases"]]
        rows.append(Row(**values, moments={use.pop("phase"): Use(**use) for use in uses}))
    return Plan(rows, content["notes"], MACHINE)


def rendered(text: str) -> str:
    """A page with the tables between ``<!-- plan: NAME -->`` and ``<!-- end -->`` made anew.

    Raises:
        UserError: a table has no markers.
    """
    for name in PLANS:
        pattern = rf"(<!-- plan: {name} -->\n).*?(\n<!-- end -->)"
        content = table(read_plan(name))
        text, count = re.subn(
            pattern, lambda found, new=content: found[1] + new + found[2], text, flags=re.DOTALL
        )
        if count != 1:
            raise UserError(f"{PAGE} needs one part between <!-- plan: {name} --> and <!-- end -->")
    return text


if __name__ == "__main__":
    main()
