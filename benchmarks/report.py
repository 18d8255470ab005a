"""REPORT.md: the results of the comparison, from the measurements of table.py."""

import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

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
"""Table to the methods of the main table that are repeated in it."""
RELABELLED = {"pool": {"risd": "risd, whole pool"}, "rollouts": {"gdso": "gdso, 1 trace"}}
"""Table to the names in it of some of these methods."""
NOTES = {
    "ablations": '"Text": rewards use the sampled score token instead of the mean of the score '
    'distribution. "One chain": one rationale per image, so that none is selected by the annotated '
    'score. "With score token": the policy gradient includes the score token.',
    "pool": "All students are trained for the same number of steps, with one trace per label "
    "unless stated otherwise.",
    "rollouts": "All other tables have one trace per score; the weights are the same.",
}
"""Table to a note on how to read it."""
SPELLED = {
    "zero_shot_reasoning": "zero-shot, reasoning",
    "zero_shot": "zero-shot",
    "bradley_terry": "Bradley-Terry",
    "rewarddance": "RewardDance",
    "literal_sum": "with score token",
    "no_brake": "no regularizer",
    "annotator_agreement": "annotators, split halves",
    "oracle": "pixel oracle (ceiling)",
    **{part: part for part in ("r_pt", "r_pw")},
    **{part.lower(): part for part in ("L_pt", "L_pw", "SFT", "GRPO", "GDSO", "OPD", "RISD")},
}
"""Part of a cell's or method's name to its spelling; elsewhere "_" becomes a space."""
DEFECTS = {
    "recolored": "wrong colour",
    "swapped": "wrong shape",
    "missing": "missing object",
    "extra": "object too many",
    "noise": "grain",
    "blur": "blur",
    "washed": "washed out",
    "cast": "colour cast",
    "broken": "broken",
    "melted": "melted",
}
"""Kind of defect of the miniature to the rubric's words for it."""
JUDGES = {"reward": "reward", "panel": "panel", "oracle": "pixel oracle"}
CALIBRATION = {"nll": "NLL", "kl": "KL", "ece": "ECE", "w1": "W1", "coverage": "coverage"}


@dataclass(frozen=True)
class Study:
    """All measurements; cells by name."""

    seeds: list[int]
    summaries: dict[str, dict[str, Any]]
    """Means over seeds with intervals, merged with the cell's entry in methods.yaml."""
    bounds: list[dict[str, Any]]
    """Annotator agreement and the ceiling."""
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
    """Cells that lack some of the seeds, and the number of seeds they have."""

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """The cells of a table after those repeated from the main table; empty if none has run.

        The main table includes the base model with reasoning.
        """
        own = ("main", "reasoning") if table == "main" else (table,)
        found = {name: row for name, row in self.summaries.items() if row["table"] in own}
        labels = RELABELLED.get(table, {})
        beside = {
            name: self.summaries[name] | ({"method": labels[name]} if name in labels else {})
            for name in BESIDE.get(table, ())
            if name in self.summaries
        }
        return beside | found if found else {}


def write_report(study: Study, folder: Path) -> None:
    """Write REPORT.md; the hand-written findings.md follows its introduction."""
    params = read_yaml(folder.parent / "params.yaml")
    training_plot = ""
    if (folder / "images/training.png").is_file():
        training_plot = "## Training\n\n" + image(
            "Reward, trace length, thorough share", "training"
        )
    sections = [
        opening(study),
        (folder / "findings.md").read_text().strip(),
        section(study, params, "main"),
        orderings(study),
        breakdown(study),
        section(study, params, "ablations"),
        training_plot,
        coupling(study),
        section(study, params, "coupling"),
        calibration(study),
        *(section(study, params, table) for table in ("targets", "pool", "rollouts")),
        tuning(study),
        costs(study),
    ]
    (folder / "REPORT.md").write_text("\n\n".join(filter(None, sections)) + "\n")


def opening(study: Study) -> str:
    """Introduction: data, metrics and intervals."""
    row = next(iter(study.summaries.values()))
    text = (
        "# Comparison of methods\n\n"
        f"Seeds: {len(study.seeds)}; held-out prompts: {study.num_prompts}; pairs: "
        f"{row['num_pairs']:.0f}. Brackets are 95 % bootstrap intervals over prompts and seeds. "
        "All methods share the base models and annotations; a seed covers everything after them. "
        "Settings: "
        "`params.yaml` overlaid by `methods.yaml`, chosen on the validation split "
        "([log of the runs](LOG.md)). Metrics of each seed: `results.json`. Generated by "
        "`make bench`.\n\n"
        "Methods: supervised fine-tuning on the scores (SFT) and on rationales and scores "
        "(RewardDance), Group Relative Policy Optimization (GRPO), Group-wise Direct Score "
        "Optimization (GDSO), on-policy distillation (OPD) and Reasoning-Internalized Score "
        "Distillation (RISD). r_pt and r_pw are GDSO's pointwise and pairwise reward, L_pt and "
        "L_pw its pointwise and pairwise loss ([equations](../docs/equations.md)).\n\n"
        "HPA (human preference accuracy) is the share of same-prompt pairs ordered as annotated; "
        "margin HPA is restricted to pairs more than half a point apart. PLCC and SRCC are "
        "Pearson's linear and Spearman's rank correlation with the annotated scores. NLL is the "
        "negative log-likelihood of the annotators' scores, in nats, and W1 the Wasserstein "
        "distance from the predicted distribution to theirs, in rubric points. Output tokens are "
        "the tokens generated per score. A difference is significant if its interval excludes "
        "zero. `make run` writes the test items of the demo one by one, with the teacher's "
        "reasoning, to `reports/viewer/index.html` ([viewer](../docs/viewer.md))."
    )
    lacking = ", ".join(f"{words(name)} ({number})" for name, number in study.missing.items())
    return f"{text}\n\nCells without all seeds: {lacking}." if lacking else text


def section(study: Study, params: dict[str, Any], table: str) -> str:
    """A table in the layout of the paper's, with its plot."""
    rows = study.rows(table)
    if not rows:
        return ""
    contents = markdown(
        {
            "size": row["size"] or "",
            "method": named(row, study),
            "training": training(row, params) if "stage" in row else "",
            "HPA": figure(row, "hpa"),
            "margin HPA": figure(row, "margin_hpa"),
            "PLCC": figure(row, "plcc"),
            "SRCC": figure(row, "srcc"),
            "output tokens": figure(row, "output_tokens", 0),
        }
        for row in [*rows.values(), *study.bounds]
    )
    note = f"{NOTES[table]}\n\n" if table in NOTES else ""
    return f"## {TITLES[table]}\n\n{note}{contents}\n\n{image('HPA with 95 % intervals', table)}"


def training(row: dict[str, Any], params: dict[str, Any]) -> str:
    """A method's training budget according to its params: steps x samples per step."""
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


def orderings(study: Study) -> str:
    """Paired differences between methods."""
    if not study.orderings:
        return ""
    rows = (
        {
            "difference": f"{words(first)} - {words(second)}",
            "HPA points": signed(gains["hpa"], 1, 100),
            "significant": significance(gains["hpa"]),
            "PLCC": signed(gains["plcc"], 3),
            "gap error": signed(gains["gap_error"], 3),
        }
        for first, second, gains in study.orderings
    )
    return (
        '## Differences between methods\n\nPaired over prompts and seeds; "significant" refers to '
        "HPA. Gap error is the mean absolute difference between the predicted and the annotated "
        f"score gap of a pair, in rubric points; lower is better.\n\n{markdown(rows)}"
    )


def significance(gain: Interval) -> str:
    """Whether the interval of a difference excludes zero."""
    return "yes" if gain.low > 0 or gain.high < 0 else "no"


def signed(gain: Interval, digits: int, scale: float = 1.0) -> str:
    """A difference with its interval."""
    value, low, high = (f"{scale * part:+.{digits}f}" for part in gain)
    return f"{value} [{low}, {high}]"


def breakdown(study: Study) -> str:
    """HPA by dimension and category, and the sensitivity to each defect."""
    if not study.parts:
        return ""
    rows = (
        {"size": study.summaries[name]["size"], "method": named(study.summaries[name], study)}
        | {group: f"{value:.3f}" for group, value in values.items()}
        for name, values in study.parts.items()
    )
    plot = image("Points lost by defect and dimension, for each judge", "defects")
    return (
        "## Breakdown by dimension and category\n\nHPA by dimension, and for alignment by category "
        f"of the prompt (number of pairs):\n\n{markdown(rows)}"
    ) + (f"\n\n{plot}" if study.has_matrix else "")


def coupling(study: Study) -> str:
    """Trace faithfulness: how strongly a score depends on its reasoning."""
    found = [row for row in study.summaries.values() if row.get("trace_share") is not None]
    if not found:
        return ""
    columns = {
        "trace_share": "trace share",
        "moved_exchanged": "exchanged",
        "moved_truncated": "truncated",
        "moved_flipped": "flipped",
        "flips_followed": "followed",
    }
    rows = (
        {"size": row["size"], "method": named(row, study)}
        | {title: figure(row, name, 2) for name, title in columns.items()}
        | {"HPA": figure(row, "hpa")}
        for row in found
    )
    return (
        "## Trace faithfulness: dependence of the score on the reasoning\n\nThe traces of two "
        "images of a prompt are exchanged; the trace share is the part of the gap between their "
        "scores that follows the traces, the rest follows the images. The next columns are the "
        "mean absolute change of the score, in rubric points, under perturbed traces: exchanged "
        "with the other image, truncated to the first half, one verdict flipped. Followed: share "
        f"of flips that moved the score in their direction.\n\n{markdown(rows)}"
    )


def calibration(study: Study) -> str:
    """Calibration against the annotators' histograms, before and after temperature scaling."""
    tables = ("main", "reasoning", "ablations", "coupling", "targets")
    after = {f"{name}_tempered": f"{title} (T)" for name, title in CALIBRATION.items()}
    after.pop("kl_tempered")
    columns = CALIBRATION | {"temperature": "T"} | after
    rows = (
        {"size": row["size"], "method": named(row, study)}
        | {
            title: figure(row, name, 3 if name.startswith("ece") else 2)
            for name, title in columns.items()
        }
        for row in study.summaries.values()
        if row["table"] in tables
    )
    return (
        "## Calibration\n\nAgainst the histograms of all annotators of a test item: negative "
        "log-likelihood (NLL) and Kullback-Leibler divergence (KL) in nats, expected calibration "
        "error (ECE) of the events above each level, Wasserstein distance (W1) in rubric points, "
        "coverage of the central 80 % interval. T is the temperature fitted on the validation "
        f"split; columns marked (T) are measured after scaling by it.\n\n{markdown(rows)}"
    )


def tuning(study: Study) -> str:
    """Tuned generators by reward and settings."""
    if not study.tuned:
        return ""
    runs = {
        name: [row for row in study.tuned if row["method"] == name]
        for name in dict.fromkeys(row["method"] for row in study.tuned)
    }
    table = markdown(
        {
            "run": words(name),
            "seeds": str(len(rows)),
            "steps": ", ".join(sorted({str(row["steps"]) for row in rows})),
            **{title: spanned(rows, f"{judge}_gain", judge) for judge, title in JUDGES.items()},
            "GSB": spanned(rows, "gsb", "gsb"),
        }
        for name, rows in runs.items()
    )
    text = (
        "## Reward tuning of the generator\n\nGain in mean score on held-out prompts, in rubric "
        "points, and GSB (good / same / bad) of the blind comparison with the base generator, "
        "judged by the pixel oracle. Values are means over seeds; a bracket spans the 95 % "
        'intervals (over prompts) of all seeds. Runs: "through N" back-propagates through N '
        'denoising steps with the RISD student as reward; "by" another reward uses three steps; '
        '"no regularizer" omits the velocity regularizer, "fast" also triples the learning rate. A '
        "run stopped by the panel keeps the weights from before the first significant fall.\n\n"
        f"{table}\n\n{image('Scores over steps by judge and dimension', 'tuning')}"
    )
    if not study.preferred:
        return text
    rows = (
        {
            "difference": f"{words(first)} - {words(second)}",
            "GSB": signed(gain, 2),
            "significant": significance(gain),
        }
        for first, second, gain in study.preferred
    )
    return f"{text}\n\nDifferences in GSB, paired over prompts and seeds:\n\n{markdown(rows)}"


def spanned(rows: list[dict[str, Any]], name: str, bounds: str) -> str:
    """Mean gain over seeds with the lowest and highest bound; empty if not measured."""
    if any(name not in row for row in rows):
        return ""
    low = min(row[f"{bounds}_low"] for row in rows)
    high = max(row[f"{bounds}_high"] for row in rows)
    return f"{sum(row[name] for row in rows) / len(rows):+.2f} [{low:+.2f}, {high:+.2f}]"


def costs(study: Study) -> str:
    """Run time of the cells."""
    tables = {row["table"]: 0.0 for row in study.summaries.values()}
    for name, row in study.summaries.items():
        tables[row["table"]] += study.seconds[name]
    minutes = ", ".join(f"{words(table)} {value / 60:.0f}" for table, value in tables.items())
    return f"## Run time\n\nMinutes per seed on this machine, by table: {minutes}."


def markdown(rows: Iterable[dict[str, str]]) -> str:
    """A Markdown table with the keys of the rows as its header."""
    return pd.DataFrame(list(rows)).to_markdown(index=False, disable_numparse=True)


def image(alternative: str, name: str) -> str:
    """A link to one of the plots."""
    return f"![{alternative}](images/{name}.png)"


def figure(row: dict[str, Any], name: str, digits: int = 3) -> str:
    """A metric with its interval, if it has one; empty if not measured."""
    if row.get(name) is None:
        return ""
    text = f"{row[name]:.{digits}f}"
    if f"{name}_low" in row:
        text += f" [{row[f'{name}_low']:.{digits}f}, {row[f'{name}_high']:.{digits}f}]"
    return text


def named(row: dict[str, Any], study: Study) -> str:
    """A method's name, with its number of seeds if some are missing."""
    number = row.get("num_seeds", len(study.seeds))
    few = f" ({number} seed{'s'[: number - 1]})" if number < len(study.seeds) else ""
    return words(row["method"]) + few


def words(name: str) -> str:
    """A cell's or method's name for display."""
    parts = re.split(rf"(?<![a-z])({'|'.join(SPELLED)})(?![a-z])", name)
    return "".join(SPELLED.get(part, part.replace("_", " ")) for part in parts)
