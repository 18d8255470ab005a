"""params.yaml: loading, overlays, and the base class of every stage's Config.

A stage reads its own section of params.yaml plus the shared keys (``SHARED``) that its Config
declares as fields. An overlay file replaces single values; a list replaces a list.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

PARAMS_FILE = Path("params.yaml")
SHARED = ("seed", "splits")
"""Top-level keys of params.yaml that several stages read."""


class UserError(ValueError):
    """An error the user can fix; the message names the file (and row), the problem and the fix."""


def writable(text: str) -> str:
    """Text with lone surrogates, which JSON and file names can hold, as their escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


class Settings(BaseModel):
    """Base class of all configs: frozen; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Splits(Settings):
    """Shares of the annotation prompts; the remainder is the test split."""

    train: float = 0.3
    """Share of prompts whose items train the teacher."""
    validation: float = 0.1
    """Share of prompts for model selection during training."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if min(self.train, self.validation) < 0 or self.train + self.validation > 1:
            raise ValueError("train and validation must be at least 0 and add up to at most 1")
        return self


class StageConfig(Settings):
    """Config of one stage, read from params.yaml."""

    seed: int
    """Seed of all random numbers of the stage."""

    @classmethod
    def load(cls, stage: str, overlay: Path | None = None) -> Self:
        """Read the stage's section of params.yaml in the current folder.

        Args:
            stage: name of the section.
            overlay: a YAML file merged over params.yaml.

        Raises:
            UserError: the file is missing or malformed, or has an unknown key or invalid value.
        """
        params = read_params(overlay)
        section = params.get(stage) or {}
        if not isinstance(section, dict):
            raise UserError(f"{PARAMS_FILE}: '{stage}' must be a mapping of keys to values")
        shared = {key: params[key] for key in SHARED if key in cls.model_fields and key in params}
        try:
            return cls(**{**shared, **section})
        except ValidationError as error:
            source = f"{PARAMS_FILE} (with {overlay})" if overlay else str(PARAMS_FILE)
            raise UserError(_explain(source, stage, error)) from None


def read_params(overlay: Path | None = None) -> dict[str, Any]:
    """params.yaml of the current folder with an overlay merged over it."""
    params = read_yaml(PARAMS_FILE)
    return merge(params, read_yaml(overlay)) if overlay else params


def parse_yaml(text: str) -> Any:
    """YAML 1.2 as DVC reads it, where `5e-05` is a number (YAML 1.1, PyYAML: a string)."""
    return YAML(typ="safe", pure=True).load(text)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        UserError: missing file, malformed YAML, or not a mapping.
    """
    if not path.is_file():
        raise UserError(f"{path} not found in {Path.cwd()}: run in a project root or pass --root")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must contain a mapping of keys to values")
    return content


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """Merge an overlay into a mapping, recursively; other values, lists included, are replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _explain(source: str, stage: str, error: ValidationError) -> str:
    lines = []
    for fault in error.errors():
        key = ".".join([stage, *(str(part) for part in fault["loc"])])
        if fault["type"] == "extra_forbidden":
            lines.append(f"{source}: unknown key '{key}'; remove it or correct its spelling")
        else:
            lines.append(f"{source}: '{key}': {fault['msg']}")
    return "\n".join(lines)
