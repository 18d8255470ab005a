"""The sets: how each is read, and its rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zreward_core.commands.benchmark import pair_rules, pair_sets, ranking_sets, rated_sets
from zreward_core.commands.benchmark.pair_rules import PairRule
from zreward_core.commands.benchmark.score_rules import CMU_RULES, EVALMUSE_RULES, ScoreRule
from zreward_core.commands.benchmark.tables import PairSet, RatedSet


@dataclass(frozen=True)
class Ranked:
    """A set of pairs."""

    title: str
    read: Callable[[Path, str], PairSet]
    rules: Sequence[PairRule]


@dataclass(frozen=True)
class Rated:
    """A set of absolute ratings."""

    title: str
    read: Callable[[Path, str], RatedSet]
    rules: Sequence[ScoreRule]


_RANKING_RULES = (
    pair_rules.POOLED,
    pair_rules.RANKING_MEAN,
    pair_rules.INVERSIONS,
    pair_rules.IN_ORDER,
)
SETS: dict[str, Ranked | Rated] = {
    "evalmuse": Rated("EvalMuse-40K", rated_sets.read_evalmuse, EVALMUSE_RULES),
    "genai_bench_cmu": Rated("GenAI-Bench (CMU)", rated_sets.read_genai_bench_cmu, CMU_RULES),
    "genai_bench_tiger": Ranked(
        "GenAI-Bench (TIGER-Lab)", pair_sets.read_genai_bench_tiger, pair_rules.TIGER_RULES
    ),
    "hpdv2": Ranked(
        "HPDv2's test set",
        ranking_sets.read_hpdv2,
        (pair_rules.INVERSIONS, pair_rules.POOLED, pair_rules.RANKING_MEAN, pair_rules.IN_ORDER),
    ),
    "hpdv3": Ranked("HPDv3's test set", pair_sets.read_hpdv3, pair_rules.HPDV3_RULES),
    "imagereward": Ranked("ImageReward's test set", ranking_sets.read_imagereward, _RANKING_RULES),
    "mj_bench": Ranked("MJ-Bench", pair_sets.read_mj_bench, pair_rules.MJ_RULES),
    "mmrb2": Ranked("Multimodal RewardBench 2", pair_sets.read_mmrb2, (pair_rules.EITHER_ORDER,)),
}
"""Name on the command line to set."""
