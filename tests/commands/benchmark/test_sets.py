"""Each set's files in their published shape: labels, votes, baselines, and rows that are wrong."""

from pathlib import Path

import numpy as np
import pytest

from tests.annotations.sources import SHARED
from tests.commands.benchmark import made_up
from zreward_core.commands.benchmark.figures import RATER, Result, raters_alpha
from zreward_core.commands.benchmark.judges import FIRST, LARGER, SAME, SHORTER
from zreward_core.commands.benchmark.run import run_benchmark
from zreward_core.commands.benchmark.sets import SETS
from zreward_core.config import UserError


def read(name: str, folder: Path):
    return SETS[name].read(folder, SETS[name].title)


def values(results: list[Result], judge: str, subset: str = "") -> dict[str, float]:
    return {r.rule: r.value for r in results if r.judge == judge and r.subset == subset}


def test_hpdv3_names_the_preferred_image_first(tmp_path: Path) -> None:
    made_up.hpdv3(tmp_path)
    found = read("hpdv3", tmp_path)
    assert found.pairs["label"].tolist() == [1, 1, 1]
    assert np.nansum(found.votes, axis=1).tolist() == [8, 1, 0]
    report = run_benchmark("hpdv3", tmp_path)
    assert values(report.results, FIRST) == {
        "listed order": 1.0,
        "confidence from 0.95": 1.0,
        "for comparison: either order": 0.5,
    }
    numbers = {r.rule: r.number for r in report.results if r.judge == FIRST}
    assert numbers["confidence from 0.95"] == 2
    # of ten raters the nine are right; of three, the two are tied with the others' mean
    assert values(report.results, RATER)["listed order"] == pytest.approx(9 / 11)
    warnings = [line for line in report.lines() if line.startswith("careful")]
    assert any("'first image', which sees nothing, gets 1.000" in line for line in warnings)


def test_alpha_does_not_depend_on_the_order_of_a_pair(tmp_path: Path) -> None:
    row = {"prompt": "a cat", "path2": "b.png", "choice_dist": [9, 1]}
    rows = [{**row, "path1": f"{number}.png"} for number in range(400)]
    made_up.write_json(tmp_path / "test.json", rows)
    # of two raters .2 differ (2 * 9 / 90), of two random votes half: 1 - .2 / .5
    assert raters_alpha(read("hpdv3", tmp_path), seed=0).value == pytest.approx(0.6, abs=0.01)


def test_mmrb2_raters_from_1_to_6_and_pairs_of_one_generator(tmp_path: Path) -> None:
    pairs = [
        made_up.mmrb2_pair(1, "A", [6, 5, 4]),
        made_up.mmrb2_pair(2, "B", [1, 2, 5], second="m"),
    ]
    made_up.mmrb2(tmp_path, pairs)
    found = read("mmrb2", tmp_path)
    assert found.pairs["label"].tolist() == [1, -1]
    assert found.votes.tolist() == [[2.5, 1.5, 0.5], [-2.5, -1.5, 1.5]]
    results = run_benchmark("mmrb2", tmp_path).results
    # first pair: all three agree with the others. Second: the others' means are 3.5 (no
    # preference), 3 (agreed) and 1.5 (not agreed)
    assert values(results, RATER) == {"either order": pytest.approx(4 / 5)}
    assert values(results, RATER, "one generator") == {"either order": pytest.approx(1 / 2)}
    assert values(results, FIRST) == {"either order": 0.5}


def test_mmrb2_without_prompts_is_judged_by_its_raters_only(tmp_path: Path) -> None:
    pair = made_up.mmrb2_pair(1, "A", [6, 5, 4])
    del pair["prompt_content"]
    made_up.write_json(tmp_path / "t2i_response_only.json", {"pairs": [pair]})
    assert read("mmrb2", tmp_path).pairs["prompt"].tolist() == ["wise 1"]


def test_genai_bench_tiger_votes(tmp_path: Path) -> None:
    made_up.tiger(tmp_path, ["leftvote", "rightvote", "tievote", "bothbad_vote", "leftvote"])
    found = read("genai_bench_tiger", tmp_path)
    assert found.pairs["label"].tolist() == [1, -1, 0, 0, 1]
    assert found.pairs["both_bad"].tolist() == [False, False, False, True, False]
    results = run_benchmark("genai_bench_tiger", tmp_path).results
    assert values(results, SAME) == {
        "four classes": 2 / 5,
        "without ties": 0.0,
        "ties never right": 0.0,
    }
    assert values(results, FIRST) == {
        "four classes": 2 / 5,
        "without ties": 0.5,
        "ties never right": pytest.approx(1.5 / 5),
    }


def test_genai_bench_tiger_votes_of_its_repository(tmp_path: Path) -> None:
    row = {"idx": 0, "prompt": "a cat", "human_vote": "rightvote", "model_vote": "[[A>B]]"}
    path = tmp_path / "results/image_generation/gpt4o/pairwise.json"
    made_up.write_json(path, [row])
    assert read("genai_bench_tiger", tmp_path).pairs["label"].tolist() == [-1]


def test_a_constant_judge_gets_89_percent_of_mj_bench(tmp_path: Path) -> None:
    made_up.mj_bench(tmp_path, [0] * 8 + [1])
    report = run_benchmark("mj_bench", tmp_path)
    assert report.counts["pairs"] == 9
    assert values(report.results, FIRST) == {
        "with ties": pytest.approx(8 / 9),
        "without ties": pytest.approx(8 / 9),
        "for comparison: either order": 0.5,
    }
    text = "\n".join(report.lines())
    assert "first image       0.889" in text
    assert "careful: the judge 'first image', which sees nothing, gets 0.889" in text


def test_hpdv2_ranks_of_the_set_and_of_its_raters(tmp_path: Path) -> None:
    entry = {"prompt": "a cat", "image_path": ["1.png", "2.png", "3.png"], "rank": [2, 1, 3]}
    raters = [{"rank": [2, 1, 3], "user_hash": "u"}, {"rank": [1, 2, 3], "user_hash": "v"}]
    made_up.write_json(tmp_path / "test.json", [{**entry, "raw_annotations": raters}])
    found = read("hpdv2", tmp_path)
    assert found.pairs["label"].tolist() == [-1, 1, 1]
    assert found.votes.tolist() == [[-1, 1], [1, 2], [2, 1]]
    results = run_benchmark("hpdv2", tmp_path).results
    assert values(results, RATER)["pooled pairs"] == pytest.approx(4 / 6)
    # images that are scored equal are ranked as they are listed
    assert values(results, SAME)["inversions"] == pytest.approx(2 / 3)
    assert values(results, SAME)["pooled pairs"] == 0.0


def test_hpdv2_images_are_not_looked_up_among_those_of_training(tmp_path: Path) -> None:
    entry = {"prompt": "a cat", "image_path": ["1.png", "2.png"], "rank": [1, 2]}
    made_up.write_json(tmp_path / "test.json", [entry])
    made_up.write_images(tmp_path / "train", ["1.png", "2.png"])
    assert any(
        "2 of 2 images are absent" in note for note in run_benchmark("hpdv2", tmp_path).notes
    )
    made_up.write_images(tmp_path / "test", ["1.png", "2.png"])
    assert not run_benchmark("hpdv2", tmp_path).notes


def test_one_prompt_has_no_interval(tmp_path: Path) -> None:
    entry = {"id": "1", "prompt": "a cat", "generations": ["1", "2"], "ranking": [1, 2]}
    made_up.write_json(tmp_path / "test.json", [entry])
    report = run_benchmark("imagereward", tmp_path)
    assert values(report.results, FIRST)["pooled pairs"] == 1.0
    assert all(np.isnan([result.low, result.high]).all() for result in report.results)
    made_up.genai_bench_cmu(tmp_path, {"a cat": [[5, 5, 5], [1, 2, 1]]})
    results = run_benchmark("genai_bench_cmu", tmp_path).results
    assert values(results, RATER)["pearson"] == pytest.approx(1.0)
    assert all(np.isnan(result.low) for result in results)


def test_imagereward_lower_is_better_and_ties_are_skipped(tmp_path: Path) -> None:
    names = ["part-1/a.webp", "part-1/b.webp", "part-1/c.webp"]
    first = {"id": "1", "prompt": "a cat", "generations": names, "ranking": [1, 2, 2]}
    second = {**first, "id": "2", "prompt": "a dog", "generations": names[:2], "ranking": [2, 1]}
    made_up.write_json(tmp_path / "data/test.json", [first, second])
    found = read("imagereward", tmp_path)
    assert found.pairs["label"].tolist() == [1, 1, 0, -1]
    assert found.pairs["ranking"].tolist() == [0, 0, 0, 1]
    results = run_benchmark("imagereward", tmp_path).results
    assert values(results, FIRST) == {
        "pooled pairs": pytest.approx(2 / 3),
        "mean of rankings": pytest.approx((2 / 2 + 0 / 1) / 2),
        "inversions": pytest.approx((3 / 3 + 0 / 1) / 2),
        "for comparison: either order": 0.5,
    }


def test_genai_bench_cmu_out_of_range_scores_are_named(tmp_path: Path) -> None:
    scores = {"a cat": [[5, 5, 5], [1, 41, 1]], "a red dog": [[2, 2, 3], [1, 1, 1]]}
    made_up.genai_bench_cmu(tmp_path, scores)
    found = read("genai_bench_cmu", tmp_path)
    assert np.nanmean(found.scores, axis=1) == pytest.approx([5, 1, 7 / 3, 1])
    assert found.written == pytest.approx([5, 43 / 3, 7 / 3, 1])
    report = run_benchmark("genai_bench_cmu", tmp_path)
    assert "record 2 (prompt 00001, SDXL_Base)" in report.notes[0]
    assert {r.rule for r in report.results if r.judge == SHORTER} >= {
        "pearson",
        "pearson, as written",
        "pairwise accuracy",
    }
    # people tie one of six pairs
    assert values(report.results, SAME)["pairwise accuracy"] == pytest.approx(1 / 6)


def test_evalmuse_takes_the_file_that_has_ratings(tmp_path: Path) -> None:
    row = {"prompt": "a cat", "img_path": "SDXL/1.png", "element_score": {"cat (object)": 0.6}}
    made_up.write_json(tmp_path / "test.json", [row])
    rows = [{**row, "img_path": f"SDXL/{n}.png", "total_score": [n, n, 1]} for n in (1, 2, 5)]
    made_up.write_json(tmp_path / "train_list.json", rows)
    found = read("evalmuse", tmp_path)
    assert found.written == pytest.approx([1, 5 / 3, 11 / 3])
    made_up.write_json(tmp_path / "eval.json", [{**one, "total_score": 3.5} for one in rows])
    assert read("evalmuse", tmp_path).scores.tolist() == [[3.5]] * 3


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("hpdv3", "test.json", [{"prompt": "p", "path1": "a"}], "record 1: 'path2' is missing"),
        ("hpdv3", "test.json", ["x"], "record 1: 'x' is not an object"),
        ("hpdv3", "test.json", {"a": 1}, "no list of records"),
        (
            "hpdv3",
            "test.json",
            [{"prompt": "p", "path1": "a", "path2": "b", "choice_dist": [1.5, 1]}],
            "record 1: 'choice_dist' is [1.5, 1.0], not numbers of votes",
        ),
        (
            "mmrb2",
            "t2i.json",
            {"pairs": [made_up.mmrb2_pair(1, "A", [1]), made_up.mmrb2_pair(2, "C", [1])]},
            "record 2: 'chosen' is 'C'; expected one of A, B",
        ),
        (
            "mmrb2",
            "t2i.json",
            {"pairs": [made_up.mmrb2_pair(1, "A", ["good"])]},
            "record 1: 'human_annotations' has 'good', not a number",
        ),
        (
            "imagereward",
            "test.json",
            [{"prompt": "p", "generations": ["a", "b"], "ranking": [1]}],
            "record 1: 'ranking' has 1 values for 2 images",
        ),
        (
            "hpdv2",
            "test.json",
            [
                {
                    "prompt": "p",
                    "image_path": ["a", "b"],
                    "rank": [1, 2],
                    "raw_annotations": [{"rank": [1, None]}],
                }
            ],
            "record 1: 'raw_annotations.0.rank' has missing, not a number",
        ),
        (
            "mj_bench",
            "x/x_test.json",
            [{"caption": "p", "image0": "a", "image1": "b", "label": 2}],
            "record 1: 'label' is 2; expected 0 or 1",
        ),
        ("mj_bench", "x/y_test.json", [{}], "has no judgements of MJ-Bench"),
        (
            "genai_bench_cmu",
            "genai_image.json",
            {"1": {"id": "1", "prompt": "p", "models": {"m": [1, "x"]}}},
            "record 1: 'scores' has 'x', not a number",
        ),
        ("genai_bench_cmu", "genai_image.json", {"1": 3}, "record 1: "),
        ("genai_bench_cmu", "genai_image.json", {}, "has no judgements of GenAI-Bench (CMU)"),
        (
            "evalmuse",
            "eval.json",
            [{"prompt": "p", "img_path": "a.png", "total_score": 9}],
            "record 1: no rating is in range",
        ),
        ("evalmuse", "test.json", [{"prompt": "p"}], "no 'total_score' in its first record"),
        ("genai_bench_tiger", "x/x.parquet", [], "not a readable Parquet file"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, name: str, file: str, content, message: str) -> None:
    path = made_up.write_json(tmp_path / file, content)
    with pytest.raises(UserError) as error:
        run_benchmark(name, tmp_path)
    assert message in str(error.value)
    assert str(path) in str(error.value) or "has no judgements" in message


@pytest.mark.parametrize("name", SETS)
def test_an_empty_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="download"):
        run_benchmark(name, tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        run_benchmark(name, tmp_path / "none")


def test_the_real_ratings_of_genai_bench() -> None:
    folder = SHARED / "genai_bench"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    report = run_benchmark("genai_bench_cmu", folder)
    assert report.counts == {"images": 3162, "prompts": 527, "ratings": 9484}
    assert report.alpha.value == pytest.approx(0.715, abs=5e-4)
    assert "2 ratings outside 1-5" in report.notes[0]
    assert LARGER not in {result.judge for result in report.results}
    assert values(report.results, RATER)["pearson"] == pytest.approx(0.813, abs=5e-4)
