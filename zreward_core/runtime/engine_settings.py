"""Rollout engines in launch.yaml: servers that sample the traces of a stage."""

from typing import Literal

from pydantic import Field, model_validator

from zreward_core.config import Count, Settings

SAMPLING = (
    *("label", "predict", "evaluate", "train_gdso", "train_gdso_coupled", "train_grpo"),
    *("train_opd", "train_rewarddance", "trace_faithfulness"),
)
"""Stages whose traces an engine can sample."""


class Vllm(Settings):
    """A vLLM server (0.32 or later) in an environment of its own: started, or joined."""

    kind: Literal["vllm"]
    """vllm."""
    python: str | None = None
    """Python of an environment that has vLLM, to start a server on this machine for the stage."""
    url: str | None = Field(None, pattern=r"^https?://[^/]+(/.*)?$")
    """Address of a running server to join, such as http://127.0.0.1:8000."""
    model: str | None = None
    """Name under which a joined server has the model; null: the only one that it serves."""
    arguments: list[str] = []
    """Further arguments of a started server; they override those that zreward sets."""
    environment: dict[str, str] = {}
    """Environment variables of a started server, such as CUDA_VISIBLE_DEVICES."""
    concurrency: Count = 32
    """Requests in flight of each process; a request samples the traces of one query."""
    start_timeout: Count = 1800
    """Seconds until a started server must answer."""
    timeout: Count = 3600
    """Seconds until a request must be answered."""

    @model_validator(mode="after")
    def _started_or_joined(self) -> "Vllm":
        if (self.python is None) == (self.url is None):
            raise ValueError("give python, to start a server, or url, to join one")
        if self.url is not None and (self.arguments or self.environment):
            raise ValueError("arguments and environment are those of a started server: give python")
        if self.python is not None and self.model is not None:
            raise ValueError("model is a name at a joined server: a started one has the stage's")
        return self
