"""Mutated params: a valid config, or a UserError that names file and key; never a traceback."""

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.effort import tries
from tests.fuzz.mutations import mutated, mutated_bytes
from zreward_core.cli import STAGES
from zreward_core.commands import gate
from zreward_core.commands.check_params import check_sections
from zreward_core.config import StageConfig, UserError, merge, read_params

ROOT = Path(__file__).parents[2]
DEMO = yaml.safe_load((ROOT / "params.yaml").read_text())
PROFILES = [DEMO] + [
    merge(DEMO, yaml.safe_load((ROOT / f"params/{name}.yaml").read_text()))
    for name in ("smoke", "paper")
]
CONFIGS: dict[str, type[StageConfig]] = {"promote": gate.Config} | {
    name: importlib.import_module(f"zreward_core.stages.{name}").Config for name in STAGES
}
FILE = Path("params.yaml")


@pytest.fixture(scope="module", autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("params"))
        yield


@st.composite
def params(draw: st.DrawFn) -> dict[str, Any]:
    """A profile's shared keys and one of its sections, mutated; all of it takes long to parse."""
    profile = draw(st.sampled_from(PROFILES))
    section = draw(st.sampled_from(sorted(set(profile) & set(CONFIGS))))
    shared = {key: profile[key] for key in ("seed", "splits", "claims")}
    return draw(mutated(shared | {section: profile[section]}))


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, float | int):
        yield value


def check() -> None:
    """The property, of the params.yaml in the current folder."""
    try:
        found = read_params()
        check_sections(found, CONFIGS, (), str(FILE))
    except UserError as error:
        message = str(error)
        message.encode()  # printable
        assert message.startswith("params.yaml") and len(message) < 20_000
        for line in message.splitlines():
            if line.startswith("params.yaml: "):
                assert "'" in line or "mapping" in line or "nested" in line, line
        return
    for section in found.keys() & CONFIGS.keys():
        config = CONFIGS[section].load(section)
        assert all(math.isfinite(one) for one in numbers(config.model_dump())), config
        again = type(config).model_validate_json(config.model_dump_json())
        assert again.model_dump_json() == config.model_dump_json()


@tries(350)
@given(params())
def test_mutated_values(content: dict[str, Any]) -> None:
    FILE.write_bytes(yaml.dump(content, allow_unicode=False).encode("utf-8", "surrogatepass"))
    check()


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """The bytes of a few lines of a section, changed."""
    section = draw(st.sampled_from(sorted(set(DEMO) & set(CONFIGS))))
    text = yaml.safe_dump({"seed": 1, section: DEMO[section]}, default_flow_style=draw(st.none()))
    return draw(mutated_bytes(text.encode()))


@tries(120)
@given(texts())
@example(b"a: &a {b: *a}")
@example(b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]")
@example(b"[" * 500)
@example(b"seed: 2001-99-99")
@example(b"seed: !!bool x")
@example(b"seed: !!int x")
@example(b"seed: " + b"9" * 5000)
@example(b'seed: "\\ud800"')
@example(b"seed: 1\nseed: 2")
@example(b"seed: 1\n? [a]\n: b")
@example(b"seed: 1\nworld: !!set {a}")
def test_mutated_text(content: bytes) -> None:
    FILE.write_bytes(content)
    check()
