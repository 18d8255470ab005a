"""params.yaml: loading, overlays, and the base class of every stage's Config.

A stage reads its own section of params.yaml plus the shared keys (``SHARED``) that its Config
declares as fields. An overlay file replaces single values; a list replaces a list. One with
``standalone: true`` replaces params.yaml as a whole: what it leaves out has the default of the
stage's Config, not the value of the demo.

Numbers are declared with the types of this module (``Count``, ``Rate``, ...), which give a finite
range: a value outside it is an error when params are loaded, not NaN after hours of training.
"""

import json
import numbers
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import DuplicateKeyError

PARAMS_FILE = Path("params.yaml")
PROJECT_FILES = (Path("dvc.yaml"), PARAMS_FILE)
"""A folder with neither of them is not a project."""
SHARED = ("seed", "splits")
"""Top-level keys of params.yaml that several stages read."""
MIN_TEST_SHARE = 1e-6
"""More than the rounding of shares that add up to 1."""
STANDALONE = "standalone"
"""Top-level key of an overlay that is not merged over params.yaml."""
MAX_DEPTH = 50
"""Levels of nesting in a YAML file."""
MAX_JSON_DEPTH = 400
"""The same in JSON: far below Python's limit of 1,000 nested calls."""
TOO_DEEP = f"nested more than {MAX_JSON_DEPTH} levels deep"
MAX_VALUES = 1_000_000
"""Values in a YAML file, those behind aliases counted wherever they are used."""


class UserError(ValueError):
    """An error the user can fix; the message names the file (and row), the problem and the fix."""


def writable(text: str) -> str:
    """Text with lone surrogates, which JSON and file names can hold, as their escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_number(value: Any) -> Any:
    """pydantic accepts true as 1 and "1" as 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError("must be a number, without quotes")
    return value


def _zero_or_temperature(value: float) -> float:
    if 0 < value < MIN_TEMPERATURE:
        raise ValueError(f"must be 0 (the most likely token) or at least {MIN_TEMPERATURE}")
    return value


MIN_TEMPERATURE = 0.01
"""Logits divided by less exceed float32."""
Number = BeforeValidator(_is_number)
"""Marks a number in an annotation: text and booleans are refused."""
Seed = Annotated[int, Number, Field(ge=0, lt=2**31)]
"""Seed of random numbers, as every library accepts it."""
Count = Annotated[int, Number, Field(ge=1, lt=2**31)]
"""Number of steps, items or elements; at least one."""
CountOrZero = Annotated[int, Number, Field(ge=0, lt=2**31)]
"""The same, where none is possible."""
Side = Annotated[int, Number, Field(ge=1, le=2**14)]
"""Side of an image, in pixels."""
Rate = Annotated[float, Number, Field(gt=0, le=1)]
"""Learning rate."""
Share = Annotated[float, Number, Field(ge=0, le=1)]
"""Share of a whole, or a probability."""
Weight = Annotated[float, Number, Field(ge=0, le=1e6)]
"""Weight of a term, or a scale; 0 switches it off."""
Positive = Annotated[float, Number, Field(gt=0, le=1e6)]
"""Limit or scale that must not be 0."""
Temperature = Annotated[float, Number, Field(ge=MIN_TEMPERATURE, le=100)]
"""Temperature at which log-probabilities are taken."""
SamplingTemperature = Annotated[
    float, Number, Field(ge=0, le=100), AfterValidator(_zero_or_temperature)
]
"""Temperature of sampling alone; 0 takes the most likely token."""
DtypeName = Literal["float32", "bfloat16"]
"""Data type of weights."""


class Settings(BaseModel):
    """Base class of all configs: frozen; unknown keys, NaN and infinity are rejected."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Splits(Settings):
    """Shares of the annotation prompts; the remainder is the test split."""

    train: Share = 0.8
    """Share of prompts whose items train the teacher."""
    validation: Share = 0.1
    """Share of prompts for model selection during training."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.train + self.validation > 1 - MIN_TEST_SHARE:
            raise ValueError(
                "train and validation must add up to less than 1: the rest is the test split, which"
                " `evaluate` and `zreward promote` need"
            )
        return self


class StageConfig(Settings):
    """Config of one stage, read from params.yaml."""

    seed: Seed
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
        return cls.of_section(stage, read_params(overlay), params_source(overlay))

    @classmethod
    def of_section(cls, stage: str, params: Mapping[str, Any], source: str) -> Self:
        """The stage's section of params that are already read.

        Raises:
            UserError: the section has an unknown key or an invalid value; names ``source``.
        """
        section = params.get(stage)
        section = {} if section is None else section
        if not isinstance(section, dict):
            raise UserError(f"{source}: '{stage}' must be a mapping of keys to values")
        shared = {key: params[key] for key in SHARED if key in cls.model_fields and key in params}
        return parse_settings(cls, {**shared, **section}, source, stage)

    def faults(self, section: str) -> Iterator[str]:
        """Messages about settings to correct before the first stage of a run, each with its key.

        `zreward plan` reads settings with such faults.
        """
        yield from ()


class TopLevel(Settings):
    """The values at the top of params.yaml, beside the sections."""

    seed: Seed = 0
    """Shared: seed of all random numbers."""
    splits: Splits = Splits()
    """Shared: shares of the prompts."""
    claims: StrictBool = True
    """Check the acceptance claims at the end of a run."""


def params_source(overlay: Path | None = None) -> str:
    """The name of the params in messages."""
    if overlay is None:
        return str(PARAMS_FILE)
    return str(overlay) if is_standalone(overlay) else f"{PARAMS_FILE} (with {overlay})"


def read_params(overlay: Path | None = None) -> dict[str, Any]:
    """params.yaml of the current folder with an overlay merged over it.

    Raises:
        UserError: a file is missing or malformed, or a value of ``TopLevel`` is invalid.
    """
    params = merged_params(overlay)
    given = {key: params[key] for key in TopLevel.model_fields if key in params}
    parse_settings(TopLevel, given, params_source(overlay))
    return params


def merged_params(overlay: Path | None = None) -> dict[str, Any]:
    """params.yaml of the current folder with an overlay merged over it, or a standalone overlay.

    Raises:
        UserError: a file is missing or malformed, or ``standalone`` is not true or false.
    """
    given = read_yaml(overlay) if overlay else {}
    standalone = overlay is not None and _is_standalone(given, overlay)
    given.pop(STANDALONE, None)
    return given if standalone else merge(read_yaml(PARAMS_FILE), given)


def is_standalone(overlay: Path) -> bool:
    """Whether an overlay replaces params.yaml as a whole.

    Raises:
        UserError: it is missing or malformed, or ``standalone`` is not true or false.
    """
    return _is_standalone(read_yaml(overlay), overlay)


def _is_standalone(given: Mapping[str, Any], overlay: Path) -> bool:
    standalone = given.get(STANDALONE, False)
    if not isinstance(standalone, bool):
        raise UserError(f"{overlay}: '{STANDALONE}' must be true or false, not {standalone!r}")
    return standalone


Parsed = TypeVar("Parsed", bound=Settings)


def parse_settings(
    kind: type[Parsed], content: Mapping[str, Any], source: str, section: str | None = None
) -> Parsed:
    """Settings of a mapping that was read from a file.

    Args:
        source: name of the file in messages.
        section: key of the mapping in the file, if it is a part of it.

    Raises:
        UserError: an unknown key or an invalid value; every one is named with the file and its key.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        start = [] if section is None else [section]
        raise UserError("\n".join(_explain(source, start, kind, error))) from None


def parse_json(text: str | bytes, **options: Any) -> Any:
    """``json.loads``; the one reader of JSON that comes from outside.

    Raises:
        ValueError: it is malformed, or nested more than ``MAX_JSON_DEPTH`` levels deep.
    """
    try:
        content = json.loads(text, **options)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    brackets = (b"[", b"{") if isinstance(text, bytes) else ("[", "{")
    if sum(map(text.count, brackets)) > MAX_JSON_DEPTH and _is_deep(content):  # type: ignore[arg-type]
        raise ValueError(TOO_DEEP)
    return content


def _is_deep(content: Any) -> bool:
    """Whether lists and mappings are nested more than ``MAX_JSON_DEPTH`` levels deep."""
    level = [content]
    for _ in range(MAX_JSON_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return True


def require_project() -> None:
    """Refuse a current folder that is not a project.

    Raises:
        UserError: it has none of the files of a project.
    """
    if not any(path.is_file() for path in PROJECT_FILES):
        missing = " and no ".join(map(str, PROJECT_FILES))
        raise UserError(
            f"{writable(str(Path.cwd()))} is not a project: it has no {missing}; make one with"
            " `zreward init DIR`, or name one with `zreward --root DIR ...`"
        )


def parse_yaml(text: str) -> Any:
    """YAML 1.2 as DVC reads it, where `5e-05` is a number (YAML 1.1, PyYAML: a string)."""
    return YAML(typ="safe", pure=True).load(text)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        UserError: missing or unreadable file, malformed YAML, a key that is given twice, text that
            is not Unicode, too much of it, or not a mapping.
    """
    if not path.is_file():
        require_project()
        raise UserError(f"{path} not found in {Path.cwd()}: run in a project root or pass --root")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except DuplicateKeyError as error:
        key = re.search(r'duplicate key "(.*?)" with', str(error.problem), re.DOTALL)
        line = error.problem_mark.line + 1
        raise UserError(
            f"{path} line {line}: the key '{key.group(1) if key else ''}' is given twice in one"
            " mapping; remove one of them"
        ) from None
    except RecursionError:
        raise UserError(f"{path} is nested more than {MAX_DEPTH} levels deep") from None
    # LookupError, TypeError, AttributeError: ruamel on a value that does not have its tag
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must contain a mapping of keys to values")
    _check_values(content, path)
    return content


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates, which JSON and YAML can hold and UTF-8 cannot."""
    return not re.search("[\ud800-\udfff]", text)


def merge(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """Merge an overlay into a mapping, recursively; other values, lists included, are replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _check_values(content: Any, path: Path) -> None:
    """Reject what YAML can express and nothing can use: cycles, bombs, text that is not Unicode."""
    waiting, count = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise UserError(f"{path} is nested more than {MAX_DEPTH} levels deep")
        if count > MAX_VALUES:
            raise UserError(f"{path} has more than {MAX_VALUES:,} values: remove aliases (*)")
        if isinstance(value, dict):
            waiting.extend((one, depth + 1) for pair in value.items() for one in pair)
        elif isinstance(value, list | tuple | set):
            waiting.extend((one, depth + 1) for one in value)
        elif isinstance(value, str) and ("\0" in value or not is_unicode(value)):
            raise UserError(f"{path}: {value!a} is not Unicode text; correct it")


def _explain(
    source: str, section: list[str], kind: type[Settings], error: ValidationError
) -> list[str]:
    lines = []
    for fault in error.errors(include_url=False):
        path = [*section, *map(str, fault["loc"])]
        if fault["type"] == "extra_forbidden":
            *where, last = path
            lines.append(unknown_key(source, where, last, _names(kind, fault["loc"][:-1])))
        else:
            key = f"'{'.'.join(path)}': " if path else ""
            lines.append(f"{source}: {key}{fault['msg'].removeprefix('Value error, ')}")
    return lines


def unknown_key(source: str, where: list[str], key: object, known: Iterable[str]) -> str:
    """The message about a key that is not known, with the one that may be meant."""
    close = get_close_matches(str(key), list(known), n=1)
    remedy = f"did you mean '{close[0]}'?" if close else "remove it or correct its spelling"
    return f"{source}: unknown key '{'.'.join([*where, str(key)])}'; {remedy}"


def _names(kind: type[Settings], path: Iterable[int | str]) -> set[str]:
    """Fields of the settings at a path, all of them where the path leads to several classes."""
    kinds = {kind}
    for part in path:
        fields = [k.model_fields[part] for k in kinds if part in k.model_fields]
        kinds = {found for field in fields for found in _settings_in(field.annotation)} or kinds
    return {name for one in kinds for name in one.model_fields}


def _settings_in(annotation: Any) -> set[type[Settings]]:
    """Settings classes that a field's annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return {annotation}
    return {found for part in typing.get_args(annotation) for found in _settings_in(part)}
