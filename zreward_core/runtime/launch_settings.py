"""launch.yaml: which launcher starts which stage. Not a DVC param: it does not change results.

``launchers`` defines launchers by name, ``stages`` assigns them. A stage that is not listed runs in
the calling process (``local``), as does every stage if there is no launch.yaml. In the same way
``engines`` defines rollout engines, and ``rollouts`` assigns them to the stages that sample traces.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from zreward_core.config import Settings, UserError, is_standalone, parse_settings, read_yaml
from zreward_core.launch_file import LAUNCH_FILE, launch_file_name
from zreward_core.runtime.engine_settings import SAMPLING, Vllm

PROFILES = Path("params")
DEMO = "demo"
"""The profile of params.yaml itself, which runs in the project root."""
OF_PROFILES = PROFILES / "launch"
"""Folder of the launch files of profiles."""
LOCAL = "local"
TRAINING = "train_"
"""Prefix of the stages that train a model; these can divide batches and shard the model."""
COMMANDS = ("gate", "score")
"""Commands that are launched as stages are; ``gate`` scores the test items for `promote`."""
PARALLEL = (
    *("base_vlm", "base_generator", "candidates", "label", "predict", "evaluate"),
    *("finetune_generator", "evaluate_gsb", *COMMANDS),
)
"""Other stages, and commands, that divide their work over processes."""


class Fsdp(Settings):
    """Settings of accelerate's FSDP2 plugin, for models that do not fit on one GPU."""

    layers: list[str] = []
    """Classes of the layers to wrap; empty: the model's ``_no_split_modules``."""
    reshard_after_forward: bool = True
    """Free a layer's gathered weights after forward: less memory, more communication."""
    cpu_offload: bool = False
    """Keep weights, gradients and optimizer state in the memory of the host."""
    replicas: int = Field(1, ge=1)
    """Copies of the model, each sharded over its part of the processes (HSDP); 1: one copy, sharded
    over all. With as many as there are machines, only gradients cross the network between them."""


class Accelerate(Settings):
    """Several processes on this machine, or on several that share the project's folder."""

    kind: Literal["accelerate"]
    """accelerate."""
    processes: int = Field(ge=1)
    """Processes per machine: its number of GPUs."""
    threads: int | None = Field(None, ge=1)
    """Threads of each process on the CPU (OMP_NUM_THREADS); null: the environment's, else its
    share of the cores. Results depend on it by rounding."""
    machines: int = Field(1, ge=1)
    """Number of machines; the same command is started on each, with its rank in
    ZREWARD_MACHINE_RANK."""
    main_ip: str | None = None
    """Address of machine 0; required with several machines."""
    main_port: int | None = Field(None, ge=1, le=65535)
    """Port on machine 0; required with several machines."""
    cpu: bool = False
    """Use CPUs even if there are GPUs."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Precision of matrix products; weights keep the dtype of params.yaml."""
    fsdp: Fsdp | None = None
    """Shard the model; null: a full copy in each process."""

    @model_validator(mode="after")
    def _machines_meet(self) -> "Accelerate":
        if self.machines > 1 and (self.main_ip is None or self.main_port is None):
            raise ValueError("several machines need main_ip and main_port")
        return self


class Ray(Settings):
    """A job on a Ray cluster whose nodes have zreward installed and share the project's folder."""

    kind: Literal["ray"]
    """ray."""
    address: str = "http://127.0.0.1:8265"
    """Address of the cluster's dashboard, which serves the job API."""
    root: str | None = None
    """The project's folder on the cluster; null: the same path as here."""
    command: str = "zreward"
    """Command that runs zreward on the nodes."""
    cpus: float | None = Field(None, ge=0)
    """CPUs reserved for the stage on each node; null: none, with several nodes one a process."""
    gpus: float | None = Field(None, ge=0)
    """GPUs reserved for the stage on each node."""
    resources: dict[str, float] = {}
    """Further Ray resources reserved for the stage on each node."""
    environment: dict[str, str] = {}
    """Environment variables of the stage."""
    inside: str = LOCAL
    """Launcher of kind accelerate: the processes of a node."""
    nodes: int = Field(1, ge=1)
    """Nodes of the stage; with several, Ray Train starts the processes of ``inside`` on each."""
    restarts: int = Field(3, ge=0)
    """With several nodes: how often all processes are started again after one of them died; they
    continue from the last checkpoint."""

    @model_validator(mode="after")
    def _processes_known(self) -> "Ray":
        if self.nodes > 1 and self.inside == LOCAL:
            raise ValueError("several nodes need inside, which has the processes of a node")
        return self


Launcher = Accelerate | Ray
"""A launcher that starts a stage outside the calling process."""


class LaunchFile(Settings):
    """Content of launch.yaml."""

    launchers: dict[str, Annotated[Launcher, Field(discriminator="kind")]] = {}
    """Launchers by name."""
    stages: dict[str, str] = {}
    """Stage to the name of a launcher, or local."""
    engines: dict[str, Vllm] = {}
    """Rollout engines by name."""
    rollouts: dict[str, str] = {}
    """Stage to the name of the engine that samples its traces, or local: the stage itself."""


def profile_file(profile: str) -> Path:
    """The params of a profile other than the demo.

    Raises:
        UserError: the project has no such profile.
    """
    path, known = PROFILES / f"{profile}.yaml", sorted(one.stem for one in PROFILES.glob("*.yaml"))
    if profile not in known:
        raise UserError(
            f"no profile {profile!r}: {path} not found; use one of {', '.join([DEMO, *known])}, or"
            f" write {path}"
        )
    return path


def launch_file_of(profile: str | None) -> Path:
    """The launch file of a profile: its own one, or, unless it is standalone, that of the demo.

    Args:
        profile: name of a file ``params/NAME.yaml``, or None for the demo.

    Raises:
        UserError: a standalone profile has none: it would run on the demo's two CPU processes.
    """
    own, file = OF_PROFILES / f"{profile}.yaml", PROFILES / f"{profile}.yaml"
    if profile is None:
        return LAUNCH_FILE
    if own.is_file():
        return own
    if file.is_file() and is_standalone(file):
        raise UserError(
            f"{file} is standalone and has no launch file {own}, and {LAUNCH_FILE} starts the"
            f" stages of the demo, on CPUs: copy the one of a similar profile, such as"
            f" `cp {OF_PROFILES}/eight_gpus.yaml {own}`, and adapt it to your machines"
        )
    return LAUNCH_FILE


def read_launcher(
    stage: str, known: tuple[str, ...], name: str | None = None, path: Path = LAUNCH_FILE
) -> Launcher | None:
    """The launcher of a stage, or None if the stage runs in this process.

    Args:
        stage: name of the stage.
        known: names of all stages.
        name: launcher that overrides the one of the file.
        path: the launch file.

    Raises:
        UserError: the file is malformed, names an unknown stage, launcher or engine, or assigns
            one that the stage does not support.
    """
    if not path.is_file():
        return None
    values = read_yaml(path)
    path = Path(launch_file_name()) if path == LAUNCH_FILE else path  # from here on for messages
    content = parse_settings(LaunchFile, values, str(path))
    _check_engines(content, path)
    for one, launcher in content.stages.items():
        if one not in (*known, *COMMANDS):
            raise UserError(
                f"{path}: 'stages.{one}' is not a stage; use one of {[*known, *COMMANDS]}"
            )
        _named(content, launcher, f"stages.{one}", path)
    chosen = _named(content, name or content.stages.get(stage, LOCAL), f"stages.{stage}", path)
    if isinstance(chosen, Ray):
        nested = _named(content, chosen.inside, "inside", path)
        if nested is not None and not isinstance(nested, Accelerate):
            raise UserError(f"{path}: 'inside' must name a launcher of kind accelerate")
        _check_support(stage, nested, path, chosen.nodes)
    _check_support(stage, chosen, path)
    return chosen


def read_engine(stage: str) -> Vllm | None:
    """The engine that samples a stage's traces, or None if the stage does so itself.

    Raises:
        UserError: launch.yaml is malformed, or names an unknown stage or engine.
    """
    if not LAUNCH_FILE.is_file():
        return None
    path = launch_file_name()
    content = parse_settings(LaunchFile, read_yaml(LAUNCH_FILE), path)
    _check_engines(content, Path(path))
    return content.engines.get(content.rollouts.get(stage, LOCAL))


def _check_engines(content: LaunchFile, path: Path) -> None:
    if LOCAL in content.engines:
        raise UserError(f"{path}: 'engines.{LOCAL}' is the stage itself: rename the engine")
    for stage, name in content.rollouts.items():
        if stage not in SAMPLING:
            raise UserError(
                f"{path}: 'rollouts.{stage}' is not a stage that samples traces with an"
                f" engine; use one of {list(SAMPLING)}"
            )
        if name != LOCAL and name not in content.engines:
            raise UserError(
                f"{path}: 'rollouts.{stage}' names the engine {name!r}, which is not"
                f" defined; use one of {[LOCAL, *content.engines]}"
            )


def require_divided(stage: str, where: str) -> None:
    """Check that several processes may run a stage.

    Raises:
        UserError: they may not.
    """
    if not stage.startswith(TRAINING) and stage not in PARALLEL:
        raise UserError(
            f"{where}: the stage {stage} runs in one process; several processes are supported by"
            f" {list(PARALLEL)} and the stages {TRAINING}*"
        )


def _named(content: LaunchFile, name: str, where: str, path: Path) -> Launcher | None:
    if name != LOCAL and name not in content.launchers:
        raise UserError(
            f"{path}: '{where}' names the launcher {name!r}, which is not defined; use one"
            f" of {[LOCAL, *content.launchers]}"
        )
    return None if name == LOCAL else content.launchers[name]


def _check_support(stage: str, launcher: Launcher | None, path: Path, nodes: int = 1) -> None:
    if not isinstance(launcher, Accelerate):
        return
    number = launcher.processes * launcher.machines * nodes
    if number > 1:
        require_divided(stage, str(path))
    if launcher.fsdp is None:
        return
    if not stage.startswith(TRAINING):
        raise UserError(
            f"{path}: the stage {stage} does not shard its model; fsdp is supported by"
            f" the stages {TRAINING}*"
        )
    replicas = launcher.fsdp.replicas
    if replicas > 1 and (number % replicas or number == replicas):
        raise UserError(
            f"{path}: 'fsdp.replicas' is {replicas}, and the stage {stage} has {number}"
            " processes: their number must be a multiple of the replicas, and larger"
        )
    if nodes > 1 and launcher.machines > 1:
        raise UserError(f"{path}: 'machines' must be 1 in a launcher that is 'inside' ray")
