"""How many inputs the property tests of this folder try: a minute's in `make test`.

`make fuzz` sets ``FUZZ_FACTOR`` and runs them again and again, each time with other inputs.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("FUZZ_FACTOR", "0"))
TRIED: Counter[str] = Counter()
"""Inputs that the property tests of this process tried, by the name of the function."""


def tries(number: int) -> Callable[[Any], Any]:
    """A property test that tries ``number`` inputs in `make test`, the same ones every time.

    Counts those that it tried, examples and the steps of shrinking included.
    """
    chosen = settings(
        max_examples=number * max(FACTOR, 1),
        derandomize=not FACTOR,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Any) -> Any:
        inner = test.hypothesis.inner_test

        @functools.wraps(inner)
        def counted(*arguments: Any, **named: Any) -> None:
            TRIED[inner.__name__] += 1
            inner(*arguments, **named)

        test.hypothesis.inner_test = counted
        return chosen(test)

    return decorate
