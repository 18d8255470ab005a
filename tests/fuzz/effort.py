"""How many inputs the property tests of this folder try: a minute's in `make test`.

`make fuzz` sets ``FUZZ_FACTOR`` and runs them again and again, each time with other inputs.
"""

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("FUZZ_FACTOR", "0"))


def tries(number: int) -> settings:
    """Settings of a test that tries ``number`` inputs in `make test`, the same ones every time."""
    return settings(
        max_examples=number * max(FACTOR, 1),
        derandomize=not FACTOR,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
