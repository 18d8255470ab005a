"""What the plan is made of: a machine, the models of a profile, and a row for each stage."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from zreward_core.commands.plan.backbone import Blueprint
from zreward_core.commands.plan.counts import Counts
from zreward_core.commands.plan.engine import Engine
from zreward_core.commands.plan.generator import GeneratorBlueprint
from zreward_core.commands.plan.use import Use
from zreward_core.launch_file import LAUNCH_FILE
from zreward_core.models.backbone import LoraSettings
from zreward_core.runtime.launch_settings import Fsdp

HEADROOM = 0.92
"""Share of a memory that a stage may use; of a GPU's, the rest is context and fragmentation."""


@dataclass(frozen=True)
class Machine:
    """What is available, with stated rates."""

    gpus: int
    memory: float
    """Bytes of a GPU."""
    flops: float
    """Sustained operations per second of a GPU in bfloat16."""
    bandwidth: float
    """Sustained bytes per second of a GPU's memory."""
    trace_tokens: int
    """Mean tokens of a trace."""
    engine: Engine | None = None
    """What samples the traces of the stage, in place of its processes."""
    machines: int = 1
    """Machines over which the processes of the stage are divided."""
    host_memory: float | None = None
    """Bytes of a machine itself; None if they are not known."""
    launch_file: Path = LAUNCH_FILE
    """The launch file of the profile, which remedies name."""

    def on_one(self, processes: int) -> int:
        """Processes of the stage on one machine."""
        return ceil(processes / self.machines)

    def room(self, use: Use) -> float:
        """Bytes left over by a use; negative if it does not fit."""
        return (use.available or HEADROOM * self.memory) - use.total


@dataclass(frozen=True)
class Models:
    """Blueprints of the bases, and what is trained on them."""

    teacher: Blueprint
    student: Blueprint
    generator: GeneratorBlueprint
    trained_on: str = "teacher"
    """The base of train_gdso: teacher or student."""
    teacher_lora: LoraSettings | None = None
    """Low-rank updates of the trained teacher; they stay apart from weights in bfloat16."""
    student_lora: LoraSettings | None = None
    """Those of the trained student."""

    def base(self, role: str) -> Blueprint:
        """The base of a role."""
        return self.teacher if role == "teacher" else self.student

    @property
    def judge(self) -> Blueprint:
        """The trained teacher."""
        return self.base(self.trained_on)


@dataclass(frozen=True)
class Row:
    """One stage."""

    stage: str
    processes: int = 1
    moments: Mapping[str, Use] = field(default_factory=dict)
    """What one process holds, by what it does."""
    tokens: float = 0
    """Generated tokens."""
    files: int = 1
    disk: float = 0
    """Bytes of the output. DVC's cache shares them where the file system can link."""
    peak: float = 0
    """Most bytes on disk at a time: the output with checkpoints and temporary files."""
    host: float = 0
    """Most bytes of the memory of one machine itself, over all processes on it."""
    hours: float = 0

    @property
    def largest(self) -> tuple[str, Use]:
        """The moment with the most memory, and its use."""
        return max(self.moments.items(), key=lambda item: item[1].total)

    def tightest(self, machine: Machine) -> tuple[str, Use]:
        """The moment with the least room on a GPU, and its use."""
        return min(self.moments.items(), key=lambda item: machine.room(item[1]))

    def fits(self, machine: Machine) -> bool:
        """Whether the stage fits on a GPU, to a byte: an engine takes all that it may."""
        return machine.room(self.tightest(machine)[1]) > -1

    def fits_host(self, machine: Machine) -> bool:
        """Whether the stage fits in the memory of a machine; true if that is not known."""
        return machine.host_memory is None or self.host <= HEADROOM * machine.host_memory


Planner = Callable[[Any, int, Fsdp | None, Models, Counts, Machine], Row]
"""Config of the stage, its processes, how it shards its model if it does, ... -> its row."""


def dtype_bytes(dtype: str) -> int:
    """Bytes of a number of a torch dtype."""
    return 2 if dtype in ("bfloat16", "float16") else 4


def apart(lora: LoraSettings | None, dtype: str) -> LoraSettings | None:
    """Low-rank updates that a trained model keeps beside its weights when it is loaded."""
    return None if dtype == "float32" else lora
