"""Enforcement of the contracts, and their results as Data Docs of Great Expectations."""

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from zreward_core.annotations.quality.contracts import Contract
from zreward_core.annotations.quality.offline_pages import make_offline
from zreward_core.config import UserError


class Gate:
    """Stops at the first contract that is broken; presents the results of all of them."""

    def __init__(self, docs: Path) -> None:
        """Replace the Data Docs in the folder ``docs``, which are written by ``publish``."""
        self._docs = docs
        self._contracts: list[Contract] = []
        shutil.rmtree(docs, ignore_errors=True)

    @property
    def rules(self) -> list[dict[str, Any]]:
        """Table, rule and success of every rule that was checked."""
        return [
            {"table": contract.name, "rule": one.rule, "success": not one.num_broken}
            for contract in self._contracts
            for one in contract.checks
        ]

    def check(self, contract: Contract) -> None:
        """Check one table.

        Raises:
            UserError: a rule is broken; names the file, the rows and the remedy.
        """
        contract.release()
        self._contracts.append(contract)
        if faults := contract.faults():
            self.publish()
            raise UserError("\n".join([*faults, f"{contract.remedy}. Details: {self._docs}"]))

    def publish(self) -> None:
        """Write the Data Docs: for each rule, the number of rows that break it."""
        os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before the import
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        context.delete_data_docs_site("local_site")
        store = {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(self._docs.resolve()),
        }
        index = {"class_name": "DefaultSiteIndexBuilder"}
        context.add_data_docs_site(
            "zreward",
            {"class_name": "SiteBuilder", "store_backend": store, "site_index_builder": index},
        )
        tables = context.data_sources.add_pandas("tables")
        for contract in self._contracts:
            columns = {f"rule {n}": [one.num_broken] for n, one in enumerate(contract.checks, 1)}
            expectations = [
                gx.expectations.ExpectColumnMaxToBeBetween(
                    column=column, max_value=0, description=one.rule
                )
                for column, one in zip(columns, contract.checks, strict=True)
            ]
            notes = [
                f"{contract.num_rows:,} rows of {contract.file}. The observed value of a rule is "
                "the number of rows that break it.",
                *contract.notes,
                *contract.faults(),
            ]
            suite = context.suites.add(
                gx.ExpectationSuite(contract.name, expectations=expectations, notes=notes)
            )
            asset = tables.add_dataframe_asset(contract.name)
            batch = asset.add_batch_definition_whole_dataframe("all")
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(name=contract.name, data=batch, suite=suite)
            )
            checkpoint = context.checkpoints.add(
                gx.Checkpoint(name=contract.name, validation_definitions=[definition])
            )
            checkpoint.run(batch_parameters={"dataframe": pd.DataFrame(columns)})
        context.build_data_docs()
        make_offline(self._docs, self._contracts)
