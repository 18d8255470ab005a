"""launch.yaml: which launcher starts which stage. No DVC param, it does not change what is made.

``launchers`` names set-ups, ``stages`` says which stage uses which; a stage that is not named, and
every stage where there is no launch.yaml, runs in the calling process (``local``).
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from zreward_core.config import Settings, UserError, read_yaml

LAUNCH_FILE = Path("launch.yaml")
LOCAL = "local"
TRAINING = "train_"
"""Prefix of the stages that train a model; these can divide batches and shard the model."""
PARALLEL = ("base_vlm", "base_generator", "label", "finetune_generator")
"""Other stages whose loops divide their batches over processes."""


class Fsdp(Settings):
    """FSDP2, as accelerate's plugin takes it: for models that do not fit one GPU."""

    layers: list[str] = []
    """Classes of the layers that are gathered one at a time; empty: what the model names itself."""
    reshard_after_forward: bool = True
    """Free a layer's weights between forward and backward: less memory, more traffic."""
    cpu_offload: bool = False
    """Keep weights, gradients and optimizer state in the memory of the host."""


class Accelerate(Settings):
    """Several processes on this machine, or on several machines that share the project's folder."""

    kind: Literal["accelerate"]
    """accelerate."""
    processes: int = Field(ge=1)
    """Processes on each machine, as many as it has GPUs."""
    machines: int = Field(1, ge=1)
    """Machines; the same command is started on each."""
    machine_rank: int = Field(0, ge=0)
    """Number of this machine; ZREWARD_MACHINE_RANK wins, so that all share one launch.yaml."""
    main_ip: str | None = None
    """Address of machine 0; needed with several."""
    main_port: int | None = Field(None, ge=1, le=65535)
    """Port on machine 0; needed with several."""
    cpu: bool = False
    """Compute on CPUs even where there are GPUs."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Precision of matrix products; weights keep that of params.yaml."""
    fsdp: Fsdp | None = None
    """Shard the model; null gives each process the whole of it."""

    @model_validator(mode="after")
    def _machines_meet(self) -> "Accelerate":
        if self.machines > 1 and (self.main_ip is None or self.main_port is None):
            raise ValueError("several machines need main_ip and main_port")
        if self.machine_rank >= self.machines:
            raise ValueError("machine_rank must be below machines")
        return self


class Ray(Settings):
    """A job of a Ray cluster whose nodes see the project's folder and have zreward installed."""

    kind: Literal["ray"]
    """ray."""
    address: str = "http://127.0.0.1:8265"
    """Address of the cluster's job server (the dashboard)."""
    root: str | None = None
    """The project's folder on the cluster; null: the same path as here."""
    command: str = "zreward"
    """The command line on the cluster's nodes."""
    cpus: float | None = Field(None, ge=0)
    """CPUs reserved for the stage."""
    gpus: float | None = Field(None, ge=0)
    """GPUs reserved for the stage; they are on one node."""
    resources: dict[str, float] = {}
    """Further Ray resources reserved for the stage."""
    environment: dict[str, str] = {}
    """Environment variables of the stage."""
    inside: str = LOCAL
    """Launcher of kind accelerate that starts the processes there."""


class Volume(Settings):
    """A persistent volume claim."""

    claim: str
    """Name of the claim."""
    path: str
    """Where it is mounted."""
    sub_path: str | None = None
    """Folder of the volume that is mounted."""


class Kubernetes(Settings):
    """A Job of a cluster, through kubectl and the context that it has."""

    kind: Literal["kubernetes"]
    """kubernetes."""
    image: str
    """Container image with zreward installed."""
    root: str = "/project"
    """The project's folder in the container; a volume must bring it."""
    volumes: list[Volume] = Field(min_length=1)
    """Claims; one of them holds the project's folder, which must be this one."""
    namespace: str = "default"
    """Namespace of the job."""
    context: str | None = None
    """Context of kubectl; null: the current one."""
    command: str = "zreward"
    """The command line in the container."""
    gpus: int = Field(0, ge=0)
    """GPUs of the pod."""
    gpu_resource: str = "nvidia.com/gpu"
    """What the cluster calls a GPU."""
    cpus: str | None = None
    """CPUs of the pod, such as "16"."""
    memory: str | None = None
    """Memory of the pod, such as "256Gi"."""
    shared_memory: str = "16Gi"
    """Size of /dev/shm, by which processes of a node exchange data."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes the pod may run on."""
    service_account: str | None = None
    """Service account of the pod."""
    environment: dict[str, str] = {}
    """Environment variables of the stage."""
    secrets: list[str] = []
    """Secrets whose entries become environment variables."""
    retries: int = Field(0, ge=0)
    """How often a pod that broke is started again; it resumes from its checkpoint."""
    keep_seconds: int = Field(86400, ge=0)
    """How long the cluster keeps an ended job."""
    inside: str = LOCAL
    """Launcher of kind accelerate that starts the processes there."""

    @model_validator(mode="after")
    def _root_is_mounted(self) -> "Kubernetes":
        inside = [v for v in self.volumes if f"{self.root}/".startswith(f"{v.path.rstrip('/')}/")]
        if not inside:
            raise ValueError(f"no volume is mounted at root {self.root} or above it")
        return self


Launcher = Accelerate | Ray | Kubernetes
"""A launcher that starts a stage elsewhere than in the calling process."""


class LaunchFile(Settings):
    """Content of launch.yaml."""

    launchers: dict[str, Annotated[Launcher, Field(discriminator="kind")]] = {}
    """Set-ups by name."""
    stages: dict[str, str] = {}
    """Stage to the name of a launcher, or local."""


def read_launcher(stage: str, known: tuple[str, ...], name: str | None = None) -> Launcher | None:
    """The launcher of a stage, or None where the stage runs in this process.

    Args:
        stage: name of the stage.
        known: names of all stages.
        name: launcher to use whatever launch.yaml says of the stage.

    Raises:
        UserError: launch.yaml is malformed, names what does not exist, or does not fit the stage.
    """
    if not LAUNCH_FILE.is_file():
        return None
    try:
        content = LaunchFile(**read_yaml(LAUNCH_FILE))
    except ValidationError as error:
        faults = (
            f"{LAUNCH_FILE}: '{'.'.join(str(part) for part in fault['loc'])}': {fault['msg']}"
            for fault in error.errors()
        )
        raise UserError("\n".join(faults)) from None
    for one, launcher in content.stages.items():
        if one not in known:
            raise UserError(f"{LAUNCH_FILE}: 'stages.{one}' is no stage; there are {list(known)}")
        _named(content, launcher, f"stages.{one}")
    chosen = _named(content, name or content.stages.get(stage, LOCAL), f"stages.{stage}")
    if isinstance(chosen, Ray | Kubernetes):
        nested = _named(content, chosen.inside, "inside")
        if nested is not None and not isinstance(nested, Accelerate):
            raise UserError(f"{LAUNCH_FILE}: 'inside' must name a launcher of kind accelerate")
        _fits(stage, nested)
    _fits(stage, chosen)
    return chosen


def _named(content: LaunchFile, name: str, where: str) -> Launcher | None:
    if name != LOCAL and name not in content.launchers:
        raise UserError(
            f"{LAUNCH_FILE}: '{where}' names the launcher {name!r}, which is not defined; there are"
            f" {[LOCAL, *content.launchers]}"
        )
    return None if name == LOCAL else content.launchers[name]


def _fits(stage: str, launcher: Launcher | None) -> None:
    if not isinstance(launcher, Accelerate):
        return
    trains = stage.startswith(TRAINING)
    if launcher.processes * launcher.machines > 1 and not trains and stage not in PARALLEL:
        raise UserError(
            f"{LAUNCH_FILE}: the stage {stage} runs in one process; several are for"
            f" {list(PARALLEL)} and the stages {TRAINING}*"
        )
    if launcher.fsdp is not None and not trains:
        raise UserError(
            f"{LAUNCH_FILE}: the stage {stage} does not shard its model; fsdp is for the stages"
            f" {TRAINING}*, other stages hold a whole model in each process"
        )
