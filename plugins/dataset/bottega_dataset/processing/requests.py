"""Bodies of requests about processing tasks, in the vendor's shapes (its public REST reference)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bottega_dataset.requests import Body


class Source(Body):
    """Where samples come from (the vendor's ProcessorDataSource).

    Beyond the vendor: `dataset_type` says what a folder holds, and `samples` (ids), `sample_state` and
    `search_conditions` (of which one must hold) choose samples of a dataset.
    """

    type: Literal["OBS", "TASK", "DATASET", "CUSTOM"] = "DATASET"
    source: str = ""
    name: str | None = None
    version_id: str | None = None
    version_name: str | None = None
    dataset_type: int = 0
    samples: list[str] = Field(default_factory=list, max_length=10_000)
    sample_state: str | None = None
    search_conditions: list[dict[str, Any]] = Field(default_factory=list)


class OperatorParam(Body):
    id: str | None = None
    name: str | None = None
    advanced_params_switch: bool | None = None
    params: dict[str, Any] | None = None


class TemplateParam(Body):
    id: str = ""
    name: str | None = None
    operator_params: list[OperatorParam] = Field(default_factory=list, max_length=50)


class WorkPath(Body):
    """Where the result goes.

    ``OBS``: into the folder `path`. ``DATASET`` with `path` (a dataset's id): a new version of that dataset, named
    `version_name`. ``DATASET`` with `name` and `output_path`: a new dataset of that name and output folder.
    """

    type: Literal["OBS", "DATASET"] = "OBS"
    path: str | None = None
    name: str | None = None
    output_path: str | None = None
    version_id: str | None = None
    version_name: str | None = Field(None, pattern="^[A-Za-z0-9_-]{0,32}$")


class NewTaskVersion(Body):
    """`seed` decides every random choice; the same seed and samples give the same result."""

    name: str | None = None
    description: str = ""
    data_source: Source | None = None
    inputs: list[Source] = Field(default_factory=list, max_length=20)
    template: TemplateParam | None = None
    version_id: str | None = None
    work_path: WorkPath | None = None
    workspace_id: str | None = None
    create_version: bool | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    flavor: str | None = None


class NewTask(NewTaskVersion):
    name: str
    template: TemplateParam


class TaskChange(Body):
    description: str = ""
