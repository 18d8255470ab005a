"""Comparison of methods over prompts and seeds."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from zreward_core.evaluation.comparison import (
    INTERVALS,
    build_comparison,
    differences,
    first_seeds,
    gsb_gain,
    measure_runs,
    predicted_by_all,
    summarise,
)
from zreward_core.evaluation.comparison_plots import (
    plot_matrix,
    plot_methods,
    plot_training,
    plot_tuning,
)
from zreward_core.evaluation.gsb import aggregate_gsb
from zreward_core.evaluation.preference import plcc

NUM_PROMPTS = 40


def split(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    rows, pairs = [], []
    for q in range(NUM_PROMPTS):
        scores = rng.permutation([1.0, 1.5, 2.5, 3.0])[:2]
        for side, score in enumerate(scores):
            histogram = [float(score < 2), float(score >= 2)]
            rows.append((f"i{q}{side}", f"p{q}", "realism", score, histogram))
        winner, loser = np.argmax(scores), np.argmin(scores)
        names = (f"i{q}{winner}", f"i{q}{loser}")
        pairs.append((f"p{q}", "realism", *names, max(scores), min(scores)))
    items = pd.DataFrame(rows, columns=["item_id", "prompt_id", "dimension", "score", "histogram"])
    columns = ["prompt_id", "dimension", "winner", "loser", "score_w", "score_l"]
    return items, pd.DataFrame(pairs, columns=columns)


def predicted(items: pd.DataFrame, noise: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    means = items["score"] + noise * rng.standard_normal(len(items))
    probs = [[0.5, 0.5]] * len(items)
    frame = items[["item_id", "dimension"]].assign(mean=means, probs=probs, output_tokens=1.0)
    return frame.sample(frac=1, random_state=seed)


def test_items_that_a_run_left_out_are_left_out_for_all(caplog: pytest.LogCaptureFixture) -> None:
    items, _ = split()
    whole, part = predicted(items, 0.1, 0), predicted(items, 0.1, 1)[3:]
    assert predicted_by_all(items, {"one": [whole, whole]}) is items and not caplog.text
    assert len(predicted_by_all(items, {"one": [whole], "two": [whole, part]})) == len(items) - 3
    assert "two did not predict 3 of 80 items" in caplog.text


def test_one_seed_reduces_to_the_bootstrap_over_prompts() -> None:
    items, pairs = split()
    comparison = build_comparison(items, pairs, 1)
    runs = measure_runs([predicted(items, 1.0, 0)], comparison, "a")
    row, (metrics,) = summarise(runs, comparison), runs.metrics
    assert row["hpa"] == metrics["hpa"] and row["margin_hpa"] == metrics["margin_hpa"]
    assert row["hpa_low"] == pytest.approx(metrics["hpa_low"])
    assert row["hpa_high"] == pytest.approx(metrics["hpa_high"])
    assert row["plcc"] == metrics["plcc"]
    assert row["plcc_low"] < row["plcc"] < row["plcc_high"]


def test_resampled_correlation_equals_scipys_on_the_drawn_items() -> None:
    items, pairs = split()
    comparison = build_comparison(items, pairs, 2, num_resamples=30)
    frames = [predicted(items, 1.0, seed) for seed in range(2)]
    row = summarise(measure_runs(frames, comparison, "a"), comparison)
    means = [
        frame.set_index("item_id").loc[items["item_id"], "mean"].to_numpy() for frame in frames
    ]
    values = []
    for prompts_Q, seeds_K in zip(comparison.counts_RQ[1:], comparison.counts_RK[1:], strict=True):
        drawn = np.repeat(np.arange(len(items)), prompts_Q[comparison.prompts_N].astype(int))
        scores = items["score"].to_numpy()[drawn]
        found = [stats.pearsonr(mean[drawn], scores).statistic for mean in means]
        values.append(np.average(found, weights=seeds_K))
    assert row["plcc_low"] == pytest.approx(np.percentile(values, 2.5))
    assert row["plcc_high"] == pytest.approx(np.percentile(values, 97.5))


def test_metrics_are_means_over_seeds() -> None:
    items, pairs = split()
    comparison = build_comparison(items, pairs, 3)
    frames = [predicted(items, 1.0, seed) for seed in range(3)]
    runs = measure_runs(frames, comparison, "a")
    row = summarise(runs, comparison)
    assert row["hpa"] == pytest.approx(np.mean([m["hpa"] for m in runs.metrics]))
    assert row["num_seeds"] == 3 and row["output_tokens"] == 1
    ordered = [frame.set_index("item_id").loc[items["item_id"], "mean"] for frame in frames]
    expected = np.mean([plcc(means.to_numpy(), items["score"].to_numpy()) for means in ordered])
    assert row["plcc"] == pytest.approx(expected)


def test_seeds_that_differ_widen_the_interval() -> None:
    items, pairs = split()
    comparison = build_comparison(items, pairs, 2)
    same = measure_runs([predicted(items, 1.0, 0)] * 2, comparison, "same")
    apart = measure_runs([predicted(items, 0.0, 0), predicted(items, 5.0, 1)], comparison, "apart")
    rows = [summarise(runs, comparison) for runs in (same, apart)]
    widths = [row["hpa_high"] - row["hpa_low"] for row in rows]
    assert widths[1] > 1.3 * widths[0]


def test_a_difference_is_paired() -> None:
    items, pairs = split()
    comparison = build_comparison(items, pairs, 2)
    good, bad = (
        measure_runs([predicted(items, noise, s) for s in (0, 1)], comparison, "m")
        for noise in (0.1, 4.0)
    )
    gains, losses = differences(good, bad, comparison), differences(bad, good, comparison)
    for name, better in {"hpa": 1, "margin_hpa": 1, "plcc": 1, "gap_error": -1}.items():
        low, value, high = sorted(better * bound for bound in gains[name])
        assert 0 < low < value < high
        assert losses[name].value == -gains[name].value
    nothing = differences(good, good, comparison)
    assert set(nothing) == set(INTERVALS) and set(nothing.values()) == {(0.0, 0.0, 0.0)}


def test_gap_error_compares_predicted_and_annotated_gaps() -> None:
    items, pairs = split()
    comparison = build_comparison(items, pairs, 2)
    frames = [predicted(items, 1.0, seed) for seed in range(2)]
    row = summarise(measure_runs(frames, comparison, "m"), comparison)
    errors = []
    for frame in frames:
        mean = frame.set_index("item_id")["mean"]
        gaps = mean[pairs["winner"]].to_numpy() - mean[pairs["loser"]].to_numpy()
        errors.append(np.abs(gaps - (pairs["score_w"] - pairs["score_l"]).to_numpy()).mean())
    assert row["gap_error"] == pytest.approx(np.mean(errors))
    assert row["gap_error_low"] < row["gap_error"] < row["gap_error_high"]


def test_methods_with_different_numbers_of_seeds_are_compared_on_the_common_ones() -> None:
    items, pairs = split()
    three = [predicted(items, 1.0, seed) for seed in range(3)]
    more = measure_runs(three, build_comparison(items, pairs, 3), "more")
    comparison = build_comparison(items, pairs, 2)
    fewer = measure_runs(three[:2], comparison, "fewer")
    assert differences(first_seeds(more, 2), fewer, comparison)["hpa"] == (0.0, 0.0, 0.0)


def test_plots(tmp_path) -> None:
    rows = [
        {"method": name, "size": size, "hpa": 0.6, "hpa_low": 0.5, "hpa_high": 0.7, "seeds": seeds}
        for name, size, seeds in (("a", "teacher", [0.6]), ("b", "student", [0.5, 0.7]))
    ]
    plot_methods(rows, 0.9, "title", tmp_path / "methods.png")
    history = [{"step": s, "reward/mean": s / 10} for s in range(5)]
    plot_training({"a": [history, history], "b": [[]]}, {"reward/mean": "R"}, tmp_path / "t.png")
    matrix = np.array([[1.0, -0.2], [np.nan, 0.0]])
    plot_matrix({"x": matrix, "y": matrix}, ["k", "l"], ["c", "d"], "title", tmp_path / "m.png")
    tuned = [{"step": 0, "reward/mean": 2.0}, {"step": 1}, {"step": 2, "reward/mean": 2.5}]
    plot_tuning(
        {"a": [tuned, tuned[:1]]},
        {"reward": "R", "panel": "P"},
        ["mean"],
        "title",
        tmp_path / "u.png",
    )
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert image.width > 200


def judgements(share_good: float, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    verdicts = np.where(rng.random(80) < share_good, "good", rng.choice(["same", "bad"], 80))
    prompts = [f"p{index % NUM_PROMPTS}" for index in rng.permutation(80)]
    return pd.DataFrame({"prompt_id": prompts, "verdict_overall": verdicts})


def gsb(table: pd.DataFrame) -> float:
    verdicts = table[["verdict_overall"]]
    return aggregate_gsb(verdicts, table["prompt_id"].tolist(), 0)["verdict_overall"]["gsb"]


def test_gsb_gain_is_the_mean_difference_over_seeds() -> None:
    first = [judgements(0.7, seed) for seed in range(3)]
    second = [judgements(0.3, seed) for seed in range(3, 6)]
    gain = gsb_gain(first, second)
    plain = np.mean([gsb(ours) - gsb(theirs) for ours, theirs in zip(first, second, strict=True)])
    assert gain.value == pytest.approx(plain)
    assert 0 < gain.low < gain.value < gain.high < 1


def test_gsb_gain_is_paired_by_prompt() -> None:
    table = judgements(0.5, 0)
    assert gsb_gain([table], [table.sample(frac=1, random_state=1)]) == (0, 0, 0)


def test_gsb_gain_of_one_seed_reduces_to_the_bootstrap_over_prompts() -> None:
    table = judgements(0.6, 0)
    same = table.assign(verdict_overall="same")
    found = aggregate_gsb(table[["verdict_overall"]], table["prompt_id"].tolist(), 0)
    expected = [found["verdict_overall"][name] for name in ("gsb", "low", "high")]
    assert gsb_gain([table], [same]) == pytest.approx(expected)


def test_gsb_gain_between_different_pairs_is_rejected() -> None:
    table = judgements(0.6, 0)
    with pytest.raises(ValueError, match="different pairs"):
        gsb_gain([table], [table[1:]])
    with pytest.raises(ValueError, match="different pairs"):
        gsb_gain([table], [table[table["prompt_id"] != "p0"]])
