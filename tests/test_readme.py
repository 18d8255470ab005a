"""The README's figures are those of the committed run."""

import importlib
from pathlib import Path

import pytest

from zreward_core.config import UserError
from zreward_core.schemas import read_json

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs/runs/demo.json"
OTHER = ROOT / "docs/runs/demo_avx2.json"
BASES = ROOT / "docs/runs/bases.json"
script = importlib.import_module("benchmarks.readme")


def test_the_readme_shows_the_committed_run() -> None:
    text = (ROOT / "README.md").read_text()
    assert text == script.rendered(text, *map(read_json, (FIGURES, OTHER, BASES))), (
        "run python benchmarks/readme.py --render"
    )


def test_a_changed_figure_changes_the_readme() -> None:
    text, figures = (ROOT / "README.md").read_text(), read_json(FIGURES)
    figures["models"]["student"] |= {"hpa": 0.7654}
    figures["claims"][2] |= {"holds": False, "detail": "-6.1 points"}
    bases = read_json(BASES)
    bases[0] |= {"student": 0.7123}
    figures |= {"minutes": 29.4, "disk_gb": 0.64}
    other = read_json(OTHER)
    other["gsb"]["overall"]["gsb"] = -0.25
    other["claims"][4]["holds"] = False
    changed = script.rendered(text, figures, other, bases)
    assert "GSB -.25 [" in changed and "not 'blind judge prefers the tuned generator'." in changed
    assert "| student (RISD) | .765 [" in changed
    assert "of its teacher | **no** | -6.1 points |" in changed
    assert "student .712 to" in changed.replace(" 0.", " .")
    assert "took 29 minutes" in changed and "0.6 GB of disk" in changed
    assert script.rendered(changed, *map(read_json, (FIGURES, OTHER, BASES))) == text


def test_a_readme_without_markers() -> None:
    with pytest.raises(UserError, match="<!-- run: cost -->"):
        script.rendered("# Z-Reward", *map(read_json, (FIGURES, OTHER, BASES)))


def test_an_incomplete_run_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="did not execute every stage"):
        script.figures_of_run()


def test_the_students_variants_are_compared_with_the_student_trained_like_them() -> None:
    rows = read_json(ROOT / "benchmarks/student_gap.json")
    alignment = {row["variant"]: f"{row['hpa_alignment']:.3f}"[1:] for row in rows}
    text = " ".join((ROOT / "README.md").read_text().split())
    for words, variant in {
        "the teacher had {}": "teacher",
        "and the student {}": "base",
        "twice the training steps ({})": "steps_2800",
        "pretrained 2.7 times as long ({})": "longer_pretraining",
        "twice the parameters ({})": "teachers_base",
        "half of the pool gave {}": "half_images",
    }.items():
        assert words.format(alignment[variant]) in text, variant
    assert alignment["half_prompts"] == alignment["half_images"]
