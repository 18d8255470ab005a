"""The audit as a page for whoever leads the annotators: what to do, plots, a row an annotator."""

from collections.abc import Mapping
from statistics import median
from typing import Any

import pandas as pd

from zreward_core.annotations.html import document, escape, image_tag
from zreward_core.annotations.svg import bars, curve, intervals, round_ticks, scatter

MAX_ROWS = 500
"""Annotators in the table, those who agree least first."""
MAX_PLOTTED = 40
"""Annotators in the plot of biases."""
MAX_DISPUTED = 24
FAST = 1 / 3
"""Of the team's median seconds; who needs less is told to slow down."""
BIASED, NOISY = 0.5, 1.5
"""Rubric points; and times the team's median noise."""
DRIFTING = 0.3
"""Rubric points from the first to the last rating, and at least three standard errors."""
STRAIGHT = 0.5
"""Share of submissions with one score for everything, and at least twice the team's median."""

Row = Mapping[str, Any]


def audit_page(
    audit: Mapping[str, Any], disputed: pd.DataFrame, images: Mapping[str, bytes] | None = None
) -> str:
    """HTML of the audit.

    Args:
        audit: content of data/validate/audit.json.
        disputed: rows of ``schemas.DISAGREEMENT``.
        images: image id to bytes, for the disputed items; without them only words are shown.
    """
    people: dict[str, Row] = audit["annotators"]
    team = {
        key: median([row[key] for row in people.values() if row[key] is not None] or [0.0])
        for key in ("seconds", "noise", "same_share")
    }
    remarks = {name: remarks_on(row, team, audit["thresholds"]) for name, row in people.items()}
    parts = [
        "<h1>Annotator audit</h1>",
        _overview(audit),
        _advice(people, remarks),
        "<h2>Agreement by dimension</h2>",
        _alphas(audit),
        "<h2>Annotators at a glance</h2>",
        _plots(people, remarks, audit["thresholds"]["min_agreement"]),
        "<h2>Every annotator</h2>",
        _table(people, remarks, audit["levels"]),
        "<h2>Most disputed items</h2>",
        _queue(disputed, images or {}),
    ]
    return document("Annotator audit", "\n".join(parts))


def remarks_on(row: Row, team: Mapping[str, float], thresholds: Mapping[str, Any]) -> list[str]:
    """What is worth telling an annotator, in words."""
    least, remarks = thresholds["min_agreement"], []
    for key, others in (("agreement", "the others"), ("gold_agreement", "the gold ratings")):
        if row[key] is not None and row[key] < least:
            remarks.append(f"agrees too little with {others} ({row[key]:.2f})")
    if row["agreement"] is None and row["gold_agreement"] is None:
        remarks.append(f"{row['num_shared']} shared ratings are too few to judge")
    if row["seconds"] is not None and row["seconds"] < FAST * team["seconds"]:
        remarks.append(f"fast: {row['seconds']:.1f} s where the team takes {team['seconds']:.1f} s")
    same = row["same_share"]
    if same is not None and same > max(STRAIGHT, 2 * team["same_share"]):
        remarks.append(f"one score for all dimensions in {same:.0%} of the submissions")
    if row["bias"] is not None and abs(row["bias"]) > BIASED:
        remarks.append(f"{'generous' if row['bias'] > 0 else 'strict'} by {abs(row['bias']):.2f}")
    if row["noise"] is not None and row["noise"] > NOISY * team["noise"]:
        remarks.append(f"scatters {row['noise'] / max(team['noise'], 1e-9):.1f} times the usual")
    drift, error = row["drift"], row["drift_error"]
    if drift is not None and abs(drift) > max(DRIFTING, 3 * error):
        remarks.append(f"drifted by {drift:+.2f} over time")
    return remarks


def _overview(audit: Mapping[str, Any]) -> str:
    counts, people = audit["counts"], audit["annotators"].values()
    numbers = [
        f"{counts['ratings']:,} ratings by {len(people):,} annotators",
        f"{counts['ratings_excluded']:,} of them left out",
        f"{counts['resubmissions']:,} submitted again",
        f"{counts['ratings_adjusted']:,} adjusted by comparisons",
    ]
    return f'<p class="soft">{"; ".join(numbers)}.</p>'


def _advice(people: Mapping[str, Row], remarks: Mapping[str, list[str]]) -> str:
    lines = []
    for name, row in people.items():
        if remarks[name] and row["agreement"] is not None:
            state = "" if row["included"] else '<span class="bad">does not count</span>: '
            lines.append(
                f"<li><b>{escape(name)}</b> {state}{escape('; '.join(remarks[name]))}</li>"
            )
    if not lines:
        return "<p>Nobody stands out.</p>"
    return f"<ul>{''.join(lines[:MAX_ROWS])}</ul>"


def _alphas(audit: Mapping[str, Any]) -> str:
    rows = []
    for name, value in audit["alpha"].items():
        low, high = audit["alpha_interval"][name]
        rows.append((name, value, low, high, value is not None and value < 0.4))
    plot = intervals(rows, 0.0, 1.0, (0, 0.2, 0.4, 0.6, 0.8, 1), "Krippendorff's alpha, ordinal")
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td class=n>{_number(value)}</td>"
        f"<td class=n>{_between(*audit['alpha_interval'][name])}</td>"
        f"<td class=n>{_number(audit['alpha_included'][name])}</td></tr>"
        for name, value in audit["alpha"].items()
    )
    table = (
        "<div><table><tr><th>dimension</th><th class=n>alpha, all</th>"
        f"<th class=n>95 % interval</th><th class=n>alpha, those who count</th></tr>{cells}</table>"
        '<p class="soft">1 is perfect, 0 what chance gives. A reward model cannot honestly beat '
        "its annotators by much.</p></div>"
    )
    return f'<div class="row">{plot}{table}</div>'


def _plots(people: Mapping[str, Row], remarks: Mapping[str, list[str]], least: float) -> str:
    points = [
        (name, row["seconds"], row["agreement"], not row["included"])
        for name, row in people.items()
        if row["seconds"] is not None and row["agreement"] is not None
    ]
    axes = ("median seconds for a submission", "agreement with the others")
    known = [(name, row) for name, row in people.items() if row["bias"] is not None]
    known.sort(key=lambda pair: -abs(pair[1]["bias"]))
    rows = [
        (
            f"{name}{' *' if remarks[name] else ''}",
            row["bias"],
            row["bias"] - row["noise"],
            row["bias"] + row["noise"],
            not row["included"],
        )
        for name, row in sorted(known[:MAX_PLOTTED], key=lambda pair: -pair[1]["bias"])
    ]
    reach = max([1.0, *(abs(end) for row in rows for end in row[2:4])])
    ticks = round_ticks(-reach, reach)
    axis = "bias ± noise against the others, rubric points"
    plots = [scatter(points, axes, least)] if points else []
    plots += [intervals(rows, -reach, reach, ticks, axis)] if rows else []
    note = '<p class="soft">Red: does not count. Dashed: the threshold. *: see the remarks.</p>'
    return f'<div class="row">{"".join(plots)}</div>{note}'


def _table(people: Mapping[str, Row], remarks: Mapping[str, list[str]], levels: list[float]) -> str:
    worst = sorted(people.items(), key=lambda pair: (pair[1]["included"], _least(pair[1]), pair[0]))
    heads = [
        ("annotator", ""), ("counts", ""), ("ratings", "n"), ("agree&shy;ment", "n"),
        ("with gold", "n"), ("bias", "n"), ("noise", "n"), ("drift", "n"), ("over time", ""),
        ("same for all", "n"), ("longest run", "n"), ("seconds", "n"), ("scores", ""),
    ]  # fmt: skip
    head = "".join(f'<th class="{kind}">{text}</th>' for text, kind in heads)
    labels = [f"{level:g}" for level in levels]
    rows = [_row(name, row, remarks[name], labels) for name, row in worst[:MAX_ROWS]]
    more = len(people) - len(rows)
    note = f'<p class="soft">{more} more in data/validate/audit.json.</p>' if more else ""
    legend = (
        '<p class="soft">Those who count least first. Drift: points by which the difference from '
        "the others moved from first to last rating. Same for all: submissions with one score for "
        "all dimensions. Longest run: ratings of a dimension in succession with one score. Seconds "
        "is the median of a submission.</p>"
    )
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>{note}{legend}'


def _row(name: str, row: Row, remarks: list[str], labels: list[str]) -> str:
    counts = "yes" if row["included"] else '<span class="bad">no</span>'
    same, run = row["same_share"], row["longest_run"]
    cells = [
        ("", f"<b>{escape(name)}</b>"),
        ("", counts),
        ("n", f"{row['num_ratings']:,}"),
        *(("n", _number(row[key])) for key in ("agreement", "gold_agreement")),
        *(("n", _number(row[key], "{:+.2f}")) for key in ("bias",)),
        ("n", _number(row["noise"])),
        ("n", _number(row["drift"], "{:+.2f}")),
        ("", curve(row["drift_parts"], 1.0) if row["drift_parts"] else "–"),
        ("n", _number(same, "{:.0%}")),
        ("n", _number(run, "{:.0f}")),
        ("n", _number(row["seconds"], "{:.1f}")),
        ("", bars(row["scores"], labels)),
    ]
    kind = "" if row["included"] else ' class="out"'
    line = "".join(f'<td class="{k}">{text}</td>' for k, text in cells)
    if not remarks:
        return f"<tr{kind}>{line}</tr>"
    told = f'<td></td><td colspan="{len(cells) - 1}">{escape("; ".join(remarks))}</td>'
    return f"<tr{kind}>{line}</tr><tr{kind}>{told}</tr>"


def _queue(disputed: pd.DataFrame, images: Mapping[str, bytes]) -> str:
    if disputed.empty:
        return "<p>No item was rated differently by two people who count.</p>"
    rows = []
    for row in disputed.head(MAX_DISPUTED).to_dict("records"):
        content = images.get(str(row["image_id"]))
        shown = image_tag(content, str(row["image_id"]), 72) if content else ""
        prompt = "" if pd.isna(row["prompt"]) else escape(row["prompt"])
        rows.append(
            f"<tr><td>{shown}</td><td>{prompt}</td><td>{escape(row['dimension'])}</td>"
            f"<td class=n>{row['lowest']:g} to {row['highest']:g}</td>"
            f"<td class=n>{row['num_ratings']}</td><td class=n>{row['spread']:.2f}</td>"
            f'<td class="soft">{escape(row["item_id"])}</td></tr>'
        )
    head = (
        "<tr><th></th><th>prompt</th><th>dimension</th><th class=n>scores</th>"
        "<th class=n>ratings</th><th class=n>spread</th><th>item</th></tr>"
    )
    note = (
        f'<p class="soft">The first {len(rows)} of {len(disputed):,} in '
        "data/validate/disagreement.parquet, ratings that count only. Look at them together: an "
        "unclear level text shows here first. <code>zreward audit</code> adds the images.</p>"
    )
    return f"<table>{head}{''.join(rows)}</table>{note}"


def _least(row: Row) -> float:
    return 2.0 if row["agreement"] is None else float(row["agreement"])


def _number(value: float | None, pattern: str = "{:.2f}") -> str:
    """The number; one that rounds to zero has no minus sign."""
    if value is None:
        return "–"
    text = pattern.format(value)
    return text if text.strip("+-0.%") else text.lstrip("+-")


def _between(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{_number(low)} to {_number(high)}"
