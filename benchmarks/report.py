"""REPORT.md: the page a researcher reads in five minutes, from what table.py has measured."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zreward_core.config import merge, read_yaml
from zreward_core.evaluation.bootstrap import Interval
from zreward_core.stages._training import SupervisedConfig

TABLES = read_yaml(Path(__file__).with_name("methods.yaml"))["tables"]
TITLES = {name: table["title"] for name, table in TABLES.items() if "title" in table}
BESIDE = {
    "ablations": ("rewarddance", "grpo", "gdso"),
    "coupling": ("gdso", "gdso_student"),
    "targets": ("risd",),
    "pool": ("risd",),
    "rollouts": ("gdso",),
}
"""Table to the compared methods that are shown in it too."""
NOTES = {
    "pool": "RISD is taught by the whole pool. All take as many steps, and a trace a label unless "
    "another number is told.",
    "rollouts": "One trace is what GDSO has everywhere else; the weights are the same.",
}
"""Table to what has to be known to read it."""
CALIBRATED = ("nll", "kl", "ece", "w1", "coverage")


@dataclass(frozen=True)
class Study:
    """Everything that was measured; cells by name."""

    seeds: list[int]
    summaries: dict[str, dict[str, Any]]
    """Means over seeds, with intervals, beside the cell's entry in methods.yaml."""
    bounds: list[dict[str, Any]]
    """The annotators among themselves, and the ceiling."""
    orderings: list[tuple[str, str, dict[str, Interval]]]
    parts: dict[str, dict[str, float]]
    """HPA by dimension, and of alignment by category with its number of pairs."""
    tuned: list[dict[str, Any]]
    preferred: list[tuple[str, str, Interval]]
    """Differences in GSB between tuned generators."""
    seconds: dict[str, float]
    num_prompts: int
    has_matrix: bool
    missing: dict[str, int]
    """Cells that have not been run with all seeds, and the number that they have."""

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """The cells of a table, below those that they are compared with; none where none has run.

        The base that reasons stands among the compared methods.
        """
        own = ("main", "reasoning") if table == "main" else (table,)
        found = {name: row for name, row in self.summaries.items() if row["table"] in own}
        beside = [name for name in BESIDE.get(table, ()) if name in self.summaries]
        return {name: self.summaries[name] for name in beside} | found if found else {}


def write_report(study: Study, folder: Path) -> None:
    """Write REPORT.md; what findings.md says by hand stands first."""
    findings = (folder / "findings.md").read_text().strip()
    said = [findings, ""] if findings else []
    params = read_yaml(folder.parent / "params.yaml")
    sections: list[list[str]] = [
        opening(study),
        said,
        section(study, params, "main"),
        orderings(study),
        where(study),
        section(study, params, "ablations"),
        imaged("Training", "Reward, trace length and thoroughness over steps", "training", folder),
        coupling(study, params),
        calibration(study),
        section(study, params, "targets"),
        section(study, params, "pool"),
        section(study, params, "rollouts"),
        tuning(study),
        costs(study),
    ]
    (folder / "REPORT.md").write_text("\n".join(line for lines in sections for line in lines))


def opening(study: Study) -> list[str]:
    """What the page is, and what its intervals mean."""
    row = next(iter(study.summaries.values()))
    lacking = ", ".join(f"{words(name)} ({number})" for name, number in study.missing.items())
    return [
        "# The methods compared",
        "",
        f"{len(study.seeds)} seeds; {study.num_prompts} held-out prompts, {row['num_pairs']:.0f} "
        "pairs; 95 % intervals over prompts and seeds together. All methods share bases and "
        "annotations; a seed covers everything after them. Settings: `params.yaml` under "
        "`methods.yaml`, chosen on the validation split ([log of runs](LOG.md)); figures of each "
        "seed: `results.json`. Made by `make bench`.",
        "",
        *([f"Not run with all seeds: {lacking}.", ""] if lacking else []),
    ]


def section(study: Study, params: dict[str, Any], table: str) -> list[str]:
    """A table in the layout of the paper's, with its image."""
    rows = study.rows(table)
    if not rows:
        return []
    lines = [f"## {TITLES[table]}", "", *([NOTES[table], ""] if table in NOTES else [])]
    lines += [
        "| size | method | training | HPA | margin HPA | PLCC | SRCC | output tokens |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in [*rows.values(), *study.bounds]:
        cells = [
            row["size"] or "",
            named(row, study),
            training(row, params) if "stage" in row else "",
            figure(row, "hpa"),
            figure(row, "margin_hpa"),
            figure(row, "plcc"),
            figure(row, "srcc"),
            "" if row["output_tokens"] is None else f"{row['output_tokens']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"![HPA by method, with intervals](images/{table}.png)", ""]
    return lines


def training(row: dict[str, Any], params: dict[str, Any]) -> str:
    """What a method's training took, as its params say: steps, and what a step sees."""
    stage = {"students": "train_risd"}.get(row["stage"], row["stage"])
    if not stage.startswith("train_"):
        return ""
    settings = merge(params.get(stage) or {}, row["params"].get(stage, {}))
    config = importlib.import_module(f"zreward_core.stages.{stage}").Config(seed=0, **settings)
    if isinstance(config, SupervisedConfig):
        return f"{config.steps} x {config.batch_size} images"
    inputs = 2 * config.pairs_per_step if hasattr(config, "pairs_per_step") else None
    number = (inputs or config.images_per_step) * config.group_size
    return f"{config.steps} x {number} traces"


def orderings(study: Study) -> list[str]:
    """Which method is above which."""
    lines = [
        "## In what order",
        "",
        "Gap error is how far the predicted gap of a pair is from the annotated one, in rubric "
        "points: the less, the better.",
        "",
        "| | HPA points | decided | PLCC | gap error |",
        "| --- | --- | --- | --- | --- |",
    ]
    for first, second, gains in study.orderings:
        lines.append(
            f"| {words(first)} - {words(second)} | {signed(gains['hpa'], 1, 100)} | "
            f"{decided(gains['hpa'])} | "
            f"{signed(gains['plcc'], 3)} | {signed(gains['gap_error'], 3)} |"
        )
    return [*lines, ""] if study.orderings else []


def decided(gain: Interval) -> str:
    """Whether a difference has a sign."""
    return "above" if gain.low > 0 else "below" if gain.high < 0 else "open"


def signed(gain: Interval, digits: int, scale: float = 1.0) -> str:
    """A difference with its interval."""
    value, low, high = (f"{scale * part:+.{digits}f}" for part in gain)
    return f"{value} [{low}, {high}]"


def where(study: Study) -> list[str]:
    """HPA by dimension and category, and what each dimension sees of each defect."""
    if not study.parts:
        return []
    groups = list(next(iter(study.parts.values())))
    lines = ["## Where methods differ", "", "HPA by dimension, and by category of the prompt:", ""]
    lines += [f"| size | method | {' | '.join(groups)} |", "| --- | --- |" + " --- |" * len(groups)]
    for name, values in study.parts.items():
        row = study.summaries[name]
        cells = [row["size"], named(row, study), *(f"{values[group]:.3f}" for group in groups)]
        lines.append(f"| {' | '.join(cells)} |")
    if study.has_matrix:
        lines += ["", "![Points lost by defect and dimension, for each judge](images/defects.png)"]
    return [*lines, ""]


def coupling(study: Study, params: dict[str, Any]) -> list[str]:
    """How much of the score the trace decides."""
    rows = {n: row for n, row in study.summaries.items() if row.get("trace_share") is not None}
    if not rows:
        return []
    lines = [
        "## How much of the score the reasoning decides",
        "",
        "Two images of a prompt exchange their traces: the trace's share is the part of the gap "
        "between their scores that goes with the traces; the rest stays with the images. "
        "Movements are mean absolute changes of the score in rubric points: under the other "
        "image's trace, under the first half of the own trace, with one verdict turned. "
        "Followed: turned verdicts that moved the score their way.",
        "",
        "| size | method | trace's share | exchanged | truncated | turned | followed | HPA |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    names = ("trace_share", "moved_exchanged", "moved_truncated", "moved_flipped", "flips_followed")
    for row in rows.values():
        cells = [row["size"], named(row, study)]
        cells += [figure(row, name, 2) for name in names] + [figure(row, "hpa")]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", *section(study, params, "coupling")]


def calibration(study: Study) -> list[str]:
    """Against the annotators' histograms, as they are and after a temperature."""
    rows = {
        name: row
        for name, row in study.summaries.items()
        if row["table"] in ("main", "reasoning", "ablations", "coupling", "targets")
    }
    lines = [
        "## Calibration",
        "",
        "Against the histograms of all annotators of a test item: negative log-likelihood and KL "
        "divergence (nats), calibration error of the events above each level, distance W1 (rubric "
        "points), annotators inside the central 80 % interval. T is fitted on the validation "
        "split; to its right the same after it.",
        "",
        "| size | method | NLL | KL | ECE | W1 | coverage | T | NLL | ECE | W1 | coverage |",
        "| --- " * 12 + "|",
    ]
    for row in rows.values():
        cells = [row["size"], named(row, study)]
        cells += [figure(row, name, 3 if name == "ece" else 2) for name in CALIBRATED]
        cells.append(figure(row, "temperature", 2))
        for name in ("nll", "ece", "w1", "coverage"):
            cells.append(figure(row, f"{name}_tempered", 3 if name == "ece" else 2))
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def tuning(study: Study) -> list[str]:
    """Generators by what rewarded them and how."""
    if not study.tuned:
        return []
    lines = [
        "## Reward tuning",
        "",
        "Gains of the mean score on held-out prompts, in rubric points, and GSB of the blind "
        "comparison with the base generator by the pixel oracle. Means of the seeds; brackets span "
        "the intervals, over prompts, of them all. A run that the panel stops keeps the weights "
        "from before its first doubt.",
        "",
        "| run | seeds | steps | reward | panel | oracle | GSB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(row["method"] for row in study.tuned):
        rows = [row for row in study.tuned if row["method"] == name]
        cells = [
            words(name),
            str(len(rows)),
            ", ".join(sorted({str(row["steps"]) for row in rows})),
        ]
        cells += [spanned(rows, f"{who}_gain", who) for who in ("reward", "panel", "oracle")]
        lines.append(f"| {' | '.join([*cells, spanned(rows, 'gsb', 'gsb')])} |")
    lines += ["", "![Scores over steps by each judge and dimension](images/tuning.png)", ""]
    if study.preferred:
        lines += [
            "Differences in GSB, paired, over prompts and seeds together:",
            "",
            "| | GSB | decided |",
            "| --- | --- | --- |",
        ]
    for first, second, gain in study.preferred:
        lines.append(f"| {words(first)} - {words(second)} | {signed(gain, 2)} | {decided(gain)} |")
    return [*lines, ""]


def spanned(rows: list[dict[str, Any]], name: str, bounds: str) -> str:
    """A gain's mean over seeds, from the lowest to the highest bound; nothing where unmeasured."""
    if any(name not in row for row in rows):
        return ""
    low = min(row[f"{bounds}_low"] for row in rows)
    high = max(row[f"{bounds}_high"] for row in rows)
    return f"{sum(row[name] for row in rows) / len(rows):+.2f} [{low:+.2f}, {high:+.2f}]"


def costs(study: Study) -> list[str]:
    """Minutes that the cells took."""
    tables: dict[str, float] = {}
    for name, row in study.summaries.items():
        tables[row["table"]] = tables.get(row["table"], 0.0) + study.seconds[name]
    told = ", ".join(f"{words(table)} {value / 60:.0f}" for table, value in tables.items())
    return ["## What it took", "", f"Minutes a seed, by table, on this machine: {told}.", ""]


def imaged(title: str, alternative: str, name: str, folder: Path) -> list[str]:
    """A section of one image, where there is one."""
    if not (folder / "images" / f"{name}.png").is_file():
        return []
    return [f"## {title}", "", f"![{alternative}](images/{name}.png)", ""]


def figure(row: dict[str, Any], name: str, digits: int = 3) -> str:
    """A figure, with its interval where it has one."""
    if row.get(name) is None:
        return ""
    text = f"{row[name]:.{digits}f}"
    if f"{name}_low" in row:
        text += f" [{row[f'{name}_low']:.{digits}f}, {row[f'{name}_high']:.{digits}f}]"
    return text


def named(row: dict[str, Any], study: Study) -> str:
    """A method's name, with its number of seeds where it has not all of them."""
    number = row.get("num_seeds", len(study.seeds))
    few = f" ({number} seed{'s'[: number - 1]})" if number < len(study.seeds) else ""
    return words(row["method"]) + few


def words(name: str) -> str:
    """A name as people read it."""
    return name.replace("_", " ")
