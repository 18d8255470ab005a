"""The contracts of ratings, items and pairs as Great Expectations suites with Data Docs."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from zreward_core.annotations.items.splits import SPLITS
from zreward_core.annotations.quality.decisive_rows import witnesses
from zreward_core.config import UserError
from zreward_core.rubric import Rubric

TOLERANCE = 1e-9
"""Rounding allowed in sums and means."""
SHOWN_ROWS = 3
"""A message names so many rows."""


@dataclass(frozen=True)
class Contract:
    """A table and what must hold for it."""

    name: str
    """Name of the suite."""
    file: Path
    """The file that the table comes from or goes to, for messages."""
    frame: pd.DataFrame
    """The table with helper columns."""
    row: str
    """Column that tells a person which row it is."""
    remedy: str
    """What to do about a row that breaks the contract."""
    expectations: list[Any]
    """Great Expectations' expectations; each has a description."""
    notes: tuple[str, ...] = ()
    """Markdown that Data Docs show beside them."""


def import_expectations() -> Any:
    """Great Expectations' expectation classes; importing takes seconds and sends nothing home."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations.expectations as expectations

    return expectations


class Gate:
    """Checks tables against their contracts and shows the results as Data Docs."""

    def __init__(self, docs: Path) -> None:
        """Open an ephemeral context whose Data Docs replace what is in the folder ``docs``."""
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self._gx = gx
        self.rules: list[dict[str, Any]] = []
        """Table, rule and success of every expectation that was checked."""
        self._docs = docs
        shutil.rmtree(docs, ignore_errors=True)
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        self._context.delete_data_docs_site("local_site")
        self._context.add_data_docs_site(
            "zreward",
            {
                "class_name": "SiteBuilder",
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(docs.resolve()),
                },
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            },
        )
        self._tables = self._context.data_sources.add_pandas("tables")

    def check(self, contract: Contract) -> None:
        """Check one table.

        Raises:
            UserError: an expectation failed; names the file, the rows and the remedy.
        """
        gx = self._gx
        asset = self._tables.add_dataframe_asset(contract.name)
        batch = asset.add_batch_definition_whole_dataframe("all")
        suite = self._context.suites.add(
            gx.ExpectationSuite(
                contract.name,
                expectations=contract.expectations,
                notes=[f"{len(contract.frame):,} rows of {contract.file}", *contract.notes],
            )
        )
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=contract.name, data=batch, suite=suite)
        )
        checkpoint = self._context.checkpoints.add(
            gx.Checkpoint(
                name=contract.name,
                validation_definitions=[definition],
                result_format={"result_format": "SUMMARY"},
            )
        )
        # As a nameless index, row names reach results and Data Docs in seconds; with
        # `unexpected_index_column_names` a million failing rows take minutes.
        frame = witnesses(contract.frame, contract.expectations)
        frame = frame.set_axis(frame[contract.row].to_list(), axis="index")
        coded = frame.select_dtypes("category").columns
        frame = frame.astype(dict.fromkeys(coded, "str"))
        outcome = checkpoint.run(batch_parameters={"dataframe": frame})
        (results,) = outcome.run_results.values()
        self.rules += [
            {"table": contract.name, "rule": _rule(one), "success": bool(one.success)}
            for one in results.results
        ]
        if not outcome.success:
            self.publish()
            faults = [_explain(contract, one) for one in results.results if not one.success]
            raise UserError("\n".join([*faults, f"{contract.remedy}. Details: {self._docs}"]))

    def publish(self) -> None:
        """Write the Data Docs of what was checked so far."""
        self._context.build_data_docs()


def _rule(result: Any) -> str:
    return str(result.expectation_config.description or result.expectation_config.type)


def _explain(contract: Contract, result: Any) -> str:
    rule = _rule(result)
    if result.exception_info.get("raised_exception"):
        return f"{contract.file}: '{rule}' cannot be checked: {result.exception_info}"
    rows = result.result.get("partial_unexpected_index_list") or []
    values = result.result.get("partial_unexpected_list") or [None] * len(rows)
    shown = [
        f"{row}: {value}" for row, value in zip(rows[:SHOWN_ROWS], values[:SHOWN_ROWS], strict=True)
    ]
    number = result.result.get("unexpected_count", len(rows))
    return f"{contract.file}: {number} rows break '{rule}', first {'; '.join(shown)}"


def ratings_contract(
    ratings: pd.DataFrame, rubric: Rubric, file: Path, notes: Sequence[str] = ()
) -> Contract:
    """Single ratings: complete, within the rubric, one prompt an item."""
    gxe = import_expectations()
    return Contract(
        "ratings",
        file,
        ratings.assign(prompts_of_item=_prompts_of_item(ratings)),
        "row_ref",
        "Correct or remove these rows in their source and run `zreward ingest` again",
        [
            *_complete(gxe, ["item_id", "dimension", "score", "source", "row_ref"]),
            *_within_rubric(gxe, rubric, ["score"]),
            gxe.ExpectColumnValuesToMatchRegex(
                column="image_id",
                regex=r"^[0-9a-f]{64}$",
                description="an image is named by the sha256 of its bytes",
            ),
            gxe.ExpectColumnValuesToBeBetween(
                column="prompts_of_item",
                max_value=1,
                description="an item belongs to one prompt",
            ),
        ],
        tuple(notes),
    )


def _prompts_of_item(ratings: pd.DataFrame) -> np.ndarray:
    """[N] number of prompts that each rating's item is said to have; NaN without an item."""
    items_N = pd.factorize(ratings["item_id"])[0]
    prompts_N = pd.factorize(ratings["prompt_id"])[0]
    known_N = (items_N >= 0) & (prompts_N >= 0)
    said_I = np.full(int(items_N.max(initial=-1)) + 1, -1)
    said_I[items_N[known_N]] = prompts_N[known_N]
    odd_N = known_N & (prompts_N != np.append(said_I, -1)[items_N])  # few, where any
    more = pd.DataFrame({"item": items_N[odd_N], "prompt": prompts_N[odd_N]}).drop_duplicates()
    numbers_I = (said_I >= 0) + np.bincount(more["item"], minlength=len(said_I))
    return np.append(numbers_I.astype(float), np.nan)[items_N]


def items_contract(
    items: pd.DataFrame, ratings: pd.DataFrame, rubric: Rubric, min_test_ratings: int, file: Path
) -> Contract:
    """Aggregated items: scores follow from the ratings, histograms and splits are sound.

    Args:
        items: rows of ``schemas.ITEMS``.
        ratings: item_id, dimension, score of the ratings that were aggregated.
        rubric: gives scale and levels.
        min_test_ratings: ratings that a test item needs.
        file: the file that the items go to.
    """
    gxe = import_expectations()
    keys = ["item_id", "dimension"]
    ranges = ratings.groupby(keys)["score"].agg(lowest="min", highest="max").reset_index()
    frame = items.drop(columns="histogram").merge(ranges, on=keys, how="left", validate="m:1")
    shares = pa.array(items["histogram"]).flatten().to_numpy().reshape(-1, len(rubric.levels))
    needed = np.where(items["split"] == "test", min_test_ratings, 1)
    frame = frame.assign(
        row=items["item_id"].astype(str) + " " + items["dimension"].astype(str),
        histogram_sum=shares.sum(axis=1),
        smallest_share=shares.min(axis=1, initial=1.0),
        mean_error=np.abs(shares @ np.asarray(rubric.levels) - items["score"].to_numpy()),
        lowest=frame["lowest"] - TOLERANCE,
        highest=frame["highest"] + TOLERANCE,
        splits_of_prompt=_splits_of_prompt(items),
        missing_ratings=needed - items["num_ratings"].to_numpy(),
    )
    return Contract(
        "items",
        file,
        frame,
        "row",
        "These follow from the ratings: run `zreward ingest` and `zreward validate` again; if the "
        "fault stays it is ours",
        [
            *_complete(gxe, ["item_id", "dimension", "score", "split", "num_ratings"]),
            *_within_rubric(gxe, rubric, ["score"]),
            gxe.ExpectCompoundColumnsToBeUnique(
                column_list=keys, description="an item has one score a dimension"
            ),
            *_score_range(gxe),
            gxe.ExpectColumnValuesToBeBetween(
                column="histogram_sum",
                min_value=1 - TOLERANCE,
                max_value=1 + TOLERANCE,
                description="a histogram sums to one",
            ),
            gxe.ExpectColumnValuesToBeBetween(
                column="smallest_share", min_value=0, description="no share is negative"
            ),
            gxe.ExpectColumnValuesToBeBetween(
                column="mean_error",
                max_value=1e-6,
                description="the mean of the histogram is the score",
            ),
            gxe.ExpectColumnValuesToBeBetween(
                column="missing_ratings",
                max_value=0,
                description="a test item has enough ratings, any other at least one",
            ),
            gxe.ExpectColumnValuesToBeInSet(
                column="split", value_set=list(SPLITS), description="a split is a known one"
            ),
            gxe.ExpectColumnValuesToBeBetween(
                column="splits_of_prompt", max_value=1, description="splits never share a prompt"
            ),
        ],
    )


def _splits_of_prompt(items: pd.DataFrame) -> np.ndarray:
    """[K] number of splits that each item's prompt (or, without one, its image) is in."""
    prompts = items["prompt_id"]
    if prompts.isna().any():
        columns = (items[name].astype("str") for name in ("prompt_id", "image_id", "item_id"))
        prompts, images, names = columns
        prompts = prompts.fillna(images).fillna(names)
    prompts_K, splits_K = pd.factorize(prompts)[0], pd.factorize(items["split"])[0]
    found = pd.DataFrame({"prompt": prompts_K, "split": splits_K}).drop_duplicates()
    known = found["prompt"][(found["prompt"] >= 0) & (found["split"] >= 0)]
    return np.bincount(known, minlength=int(prompts_K.max(initial=0)) + 1)[prompts_K]


def pairs_contract(
    pairs: pd.DataFrame, items: pd.DataFrame, rubric: Rubric, file: Path
) -> Contract:
    """Pairs: same prompt, same split, the winner really scored higher."""
    gxe = import_expectations()
    known = items.set_index(["item_id", "dimension"])[["prompt_id", "split", "score"]]
    frame = pairs
    for side in ("winner", "loser"):
        facts = known.add_suffix(f"_of_{side}")
        frame = frame.join(facts, on=[side, "dimension"])
    frame = frame.assign(
        row=pairs["winner"].astype(str) + " > " + pairs["loser"].astype(str),
        same_item=(pairs["winner"] == pairs["loser"]).astype(int),
    )
    columns = [
        (f"{ours}", f"{theirs}_of_{side}")
        for side, score in (("winner", "score_w"), ("loser", "score_l"))
        for ours, theirs in (("prompt_id", "prompt_id"), ("split", "split"), (score, "score"))
    ]
    return Contract(
        "pairs",
        file,
        frame,
        "row",
        "Pairs follow from the items: run `zreward validate` again; if the fault stays it is ours",
        [
            *_complete(gxe, ["prompt_id", "dimension", "winner", "loser"]),
            *_within_rubric(gxe, rubric, ["score_w", "score_l"]),
            gxe.ExpectColumnValuesToBeInSet(
                column="same_item", value_set=[0], description="nothing wins against itself"
            ),
            gxe.ExpectColumnPairValuesAToBeGreaterThanB(
                column_A="score_w", column_B="score_l", description="the winner scored higher"
            ),
            *(
                gxe.ExpectColumnPairValuesToBeEqual(
                    column_A=ours, column_B=theirs, description=f"{ours} is {theirs}"
                )
                for ours, theirs in columns
            ),
        ],
    )


def _complete(gxe: Any, columns: list[str]) -> list[Any]:
    return [
        gxe.ExpectColumnValuesToNotBeNull(column=column, description=f"{column} is always given")
        for column in columns
    ]


def _within_rubric(gxe: Any, rubric: Rubric, columns: list[str]) -> list[Any]:
    scale = f"{rubric.minimum:g} to {rubric.maximum:g}"
    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="dimension",
            value_set=rubric.names,
            description="a dimension is one of the rubric's",
        ),
        *(
            gxe.ExpectColumnValuesToBeBetween(
                column=column,
                min_value=rubric.minimum,
                max_value=rubric.maximum,
                description=f"{column} lies within the rubric's scale {scale}",
            )
            for column in columns
        ),
    ]


def _score_range(gxe: Any) -> list[Any]:
    description = "a score lies between the lowest and the highest of its ratings"
    bounds = [("score", "lowest"), ("highest", "score")]
    return [
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A=upper, column_B=lower, or_equal=True, description=description
        )
        for upper, lower in bounds
    ]
