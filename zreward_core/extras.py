"""The extras of pyproject.toml, and what is said where the packages of one are missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from zreward_core.config import UserError

EXTRAS = {
    "pipeline": (
        *("accelerate", "dagster", "dagster_webserver", "datasets", "diffusers", "dvc"),
        *(
            "great_expectations",
            "matplotlib",
            "mlflow",
            "openpyxl",
            "peft",
            "psutil",
            "sqlalchemy",
            "tabulate",
        ),
    ),
    "ray": ("ray",),
}
"""Modules of the packages that each extra of pyproject.toml installs."""


@contextmanager
def extras_named() -> Iterator[None]:
    """Within the block a missing module of an extra is raised as UserError with the remedy."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = str(error.name).partition(".")[0]
        extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
        if extra is None:
            raise
        raise UserError(
            f"this needs {module}, which is not installed: pip install 'zreward[{extra}]'"
        ) from None
