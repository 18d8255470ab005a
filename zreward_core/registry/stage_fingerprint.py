"""Fingerprint of a stage: a hash over the md5s of its deps and its params.

A run's fingerprint equals that of the stage's entry in dvc.lock. Runs and lock entries are matched
by it, whether DVC ran the stage or restored it from its cache.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from zreward_core.dvc import Md5s, locked_params, md5s


def stage_fingerprint(deps: Md5s, params: Mapping[str, Any]) -> str:
    """sha256 of a stage's deps and params."""
    content = json.dumps({"deps": deps, "params": params}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def locked_fingerprint(entry: Mapping[str, Any]) -> str:
    """``stage_fingerprint`` of an entry of dvc.lock."""
    return stage_fingerprint(md5s(entry, "deps"), locked_params(entry))
