"""The summary table of a run, for the terminal and as Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from zreward_core.evaluation.claims import Claim

MODELS = ("zero_shot", "zero_shot_reasoning", "teacher", "student")
TITLES = {
    "zero_shot": "zero-shot (student's base)",
    "zero_shot_reasoning": "zero-shot, reasoning (teacher's base)",
    "teacher": "teacher",
    "student": "student",
    "annotators": "annotators, split halves",
    "oracle": "pixel oracle (ceiling)",
}


def summary_table(
    evaluate_metrics: Mapping[str, Any],
    gsb: Mapping[str, Any] | None = None,
    claims: Sequence[Claim] = (),
    bases: Sequence[Mapping[str, float]] = (),
) -> Group:
    """The results of a run, for ``rich.print``.

    Args:
        evaluate_metrics: data/evaluate/metrics.json.
        gsb: data/evaluate_gsb/gsb.json.
        claims: result of ``judge_claims``.
        bases: figures of whole runs on base models of several seeds (docs/runs/bases.json).
    """
    parts: list[Any] = [_models(evaluate_metrics)]
    if bases:
        parts.append(Text(f"  {bases_text(bases)}\n", style="dim"))
    if "votes" in evaluate_metrics:
        parts.append(_votes(evaluate_metrics["votes"]))
    if gsb is not None:
        parts.append(_generator(gsb))
    if claims:
        parts.append(_claims(claims))
    return Group(*parts)


def models_markdown(entries: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """The models' overall metrics as a Markdown table; a leading zero is left out.

    Args:
        entries: row to its metrics (hpa, hpa_low, hpa_high, margin_hpa, plcc, srcc, output_tokens).
        titles: row to its first cell, in order.
    """
    lines = ["| | HPA | margin HPA | PLCC | SRCC | output tokens |", "|" + " --- |" * 6]
    for name in (name for name in titles if name in entries):
        entry = entries[name]
        numbers = [_hpa(entry), *(_format(entry[key]) for key in ("margin_hpa", "plcc", "srcc"))]
        tokens = entry["output_tokens"]
        cells = [titles[name], *map(without_zero, numbers)]
        cells.append("" if tokens is None else f"{tokens:.0f}")
        lines.append("| " + " | ".join(cells).rstrip() + " |")
    return "\n".join(lines)


def bases_text(bases: Sequence[Mapping[str, float]]) -> str:
    """The range of the results over base models of several seeds, as a sentence."""
    ranges = {name: [base[name] for base in bases] for name in ("teacher", "student", "gsb")}
    hpa = [f"{name} {min(of):.3f} to {max(of):.3f}" for name, of in ranges.items() if name != "gsb"]
    gsb = f"GSB {min(ranges['gsb']):+.2f} to {max(ranges['gsb']):+.2f}"
    return f"Over base models of {len(bases)} seeds: HPA of {', '.join(hpa)}; {gsb}."


def bases_markdown(bases: Sequence[Mapping[str, float]], shipped: int) -> str:
    """The results on base models of several seeds as a Markdown table.

    Args:
        shipped: seed of the base models in data/bases.
    """
    head = ["base models", *(f"{name} HPA (alignment)" for name in ("teacher", "student")), "GSB",
            "student HPA, validation prompts"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for base in bases:
        name = f"seed {base['seed']}" + (", in `data/bases`" if base["seed"] == shipped else "")
        cells = [f"{base[of]:.3f} ({base[f'{of}_alignment']:.3f})" for of in ("teacher", "student")]
        cells += [f"{base['gsb']:+.2f}", f"{base['validation']:.3f}"]
        lines.append(f"| {name} | " + " | ".join(map(without_zero, cells)) + " |")
    return "\n".join(lines)


def claims_markdown(claims: Sequence[Mapping[str, Any]]) -> str:
    """Claims (name, holds, detail) as a Markdown table."""
    lines = ["| claim | holds | |", "| --- | --- | --- |"]
    for claim in claims:
        cells = claim["name"], "yes" if claim["holds"] else "**no**", without_zero(claim["detail"])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def without_zero(text: str) -> str:
    """A text in which numbers below 1 have no leading zero."""
    return re.sub(r"(?<![\d.])0\.(?=\d\d)", ".", text)


def _models(metrics: Mapping[str, Any]) -> Table:
    table = Table(
        title="Agreement with the annotators on held-out prompts, all dimensions",
        caption="HPA (human preference accuracy): share of same-prompt pairs ordered as annotated "
        "[95 % interval]; tokens: tokens generated per score",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    for column in ("HPA", "margin HPA", "PLCC", "SRCC", "tokens"):
        table.add_column(column, justify="right", no_wrap=True)
    models, reference = metrics.get("models", {}), metrics.get("reference", {})
    others = [name for name in models if name not in MODELS]
    for name in [*(name for name in MODELS if name in models), *others]:
        _add(table, name, models[name])
    table.add_section()
    for name, key in (("annotators", "annotator_agreement"), ("oracle", "oracle")):
        if key in reference:
            _add(table, name, reference[key])
    return table


def _votes(models: Mapping[str, Any]) -> Table:
    table = Table(
        title="Agreement with votes on held-out pairs without scores, all dimensions",
        caption="ties are excluded from HPA [95 % interval]",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    for column in ("HPA", "pairs", "ties"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, parts in models.items():
        entry = parts["overall"]
        counts = [str(entry[key]) for key in ("num_pairs", "num_ties")]
        table.add_row(TITLES.get(name, name), Text(_hpa(entry)), *counts)
    return table


def _hpa(entry: Mapping[str, Any]) -> str:
    if entry["hpa_low"] is None:
        return _format(entry["hpa"])
    return f"{_format(entry['hpa'])} [{_format(entry['hpa_low'])}, {_format(entry['hpa_high'])}]"


def _add(table: Table, name: str, parts: Mapping[str, Any]) -> None:
    entry = parts["overall"]
    numbers = [_format(entry[key]) for key in ("margin_hpa", "plcc", "srcc")]
    style = "bold" if name in ("teacher", "student") else None
    table.add_row(
        TITLES.get(name, name),
        Text(_hpa(entry)),
        *numbers,
        _format(entry["output_tokens"], "{:.0f}"),
        style=style,
    )


def _generator(gsb: Mapping[str, Any]) -> Table:
    table = Table(
        title="Tuned generator against its base, blind comparison",
        caption="GSB (good / same / bad) = (good - bad) / (good + same + bad) [95 % interval]",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    for column in ("good", "same", "bad", "GSB"):
        table.add_column(column, justify="right", no_wrap=True)
    for name in sorted(gsb, key=lambda name: (name != "overall", name)):
        entry = gsb[name]
        share = _format(entry["gsb"], "{:+.2f}")
        if entry["low"] is not None:
            share += f" [{entry['low']:+.2f}, {entry['high']:+.2f}]"
        counts = [str(entry[key]) for key in ("good", "same", "bad")]
        table.add_row(name, *counts, Text(share), style="bold" if name == "overall" else None)
    return table


def _claims(claims: Sequence[Claim]) -> Table:
    table = Table(title="Claims", box=box.SIMPLE, show_header=False)
    for claim in claims:
        verdict = Text("yes", style="green") if claim.holds else Text("NO", style="bold red")
        table.add_row(verdict, Text(claim.name), Text(claim.detail))
    return table


def _format(value: float | None, pattern: str = "{:.3f}") -> str:
    return "–" if value is None else pattern.format(value)
