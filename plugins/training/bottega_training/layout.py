"""Where a job's code, inputs and outputs lie while it runs, and how its script is told (README, script contract).

The process starts in the workload's directory, which is also its home, with the code folder in it under its own
name: the place of the vendor's ``/home/ma-user``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bottega.backends import Transfer
from bottega.errors import Invalid
from bottega.objects import ObjectPath
from bottega_training import requests
from bottega_training.entities import TrainingJob

_HOME = "/home/ma-user/"
CACHE = "cache"


@dataclass(frozen=True, slots=True)
class Channel:
    """An input or output. `local` is the folder beneath the workload's directory.

    `kind` is ``folder``, ``file`` or ``manifest``; `source` is what lineage calls an input; `reads` are further
    folders the job must read, those of a manifest's samples.
    """

    name: str
    path: str
    local: str
    access_method: str
    kind: str = "folder"
    source: str = ""
    reads: tuple[str, ...] = ()

    @classmethod
    def load(cls, stored: dict[str, Any]) -> Channel:
        return cls(**{**stored, "reads": tuple(stored["reads"])})

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def seen_by_script(self) -> str:
        """What the script gets: the folder, or the file itself."""
        name = ObjectPath.parse(self.path).name
        return f"{{dir}}/{self.local}/{name}" if self.kind == "file" else f"{{dir}}/{self.local}/"

    @property
    def transfer(self) -> Transfer:
        if self.kind == "file":
            return Transfer(path=self.path, local=f"{self.local}/{ObjectPath.parse(self.path).name}")
        return Transfer(path=self.path, local=self.local, manifest=self.kind == "manifest")


def local_folder(channel: requests.Channel, side: str, index: int) -> str:
    """The folder of a channel: as asked, or ``modelarts/inputs/<name>_<index>`` as the vendor's.

    A `local_dir` below ``/home/ma-user/`` (or below ``/``) is taken relative to the workload's directory.
    Raises Invalid when it leads out of it.
    """
    if not channel.local_dir:
        return f"modelarts/{side}/{channel.name}_{index}"
    local = channel.local_dir.removeprefix(_HOME).strip("/")
    if not local or any(part in ("", ".", "..") for part in local.split("/")):
        raise Invalid(
            f"local_dir '{channel.local_dir}' of '{channel.name}' must be a folder below {_HOME} without '.' and '..'"
        )
    return local


def code_folder(code_dir: ObjectPath) -> str:
    """The name of the code folder; that of the bucket when the code lies at its top."""
    return code_dir.name or code_dir.bucket


def code_transfer(code_dir: ObjectPath) -> Transfer:
    return Transfer(path=str(code_dir), local=code_folder(code_dir))


def boot_file(job: TrainingJob) -> str:
    """The boot file relative to the workload's directory."""
    code = ObjectPath.parse(job.code_dir)
    return f"{code_folder(code)}/{ObjectPath.parse(job.boot_file).key.removeprefix(code.key)}"


def arguments(parameters: Sequence[requests.Parameter], channels: Sequence[Channel]) -> list[str]:
    """``--name=value`` for each hyperparameter and each channel told by parameter (sdk_spec §3.1)."""
    given = [f"--{p.name}" if p.value is None else f"--{p.name}={p.value}" for p in parameters]
    return given + [f"--{c.name}={c.seen_by_script}" for c in channels if c.access_method == "parameter"]


def environment(job: TrainingJob, name: str, inputs: Sequence[Channel], outputs: Sequence[Channel]) -> dict[str, str]:
    """The vendor's variables (002 §11.4, table 11-2) and the channels told by environment.

    As the vendor writes them, the ``DLS_…_URL`` are object paths with their protocol, not local folders.
    """
    told = {c.name: c.seen_by_script for c in (*inputs, *outputs) if c.access_method == "env"}
    return {
        **told,
        "DLS_TASK_INDEX": "0",
        "DLS_TASK_NUMBER": str(job.node_count),
        "DLS_APP_URL": job.code_dir,
        "DLS_DATA_URL": inputs[0].path if inputs else "",
        "DLS_TRAIN_URL": outputs[0].path,
        "DLS_LOCAL_CACHE_PATH": f"{{dir}}/{CACHE}",
        f"BATCH_{name}.0_HOSTS": "127.0.0.1:{port:task}",
        "MA_JOB_DIR": "{dir}",
        "MA_NUM_HOSTS": str(job.node_count),
        "VC_TASK_INDEX": "0",
        "BOTTEGA_JOB_ID": job.id,
    }
