"""Bodies of requests, in the vendor's shapes (its public REST reference, "Starting Intelligent Tasks")."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bottega_dataset.requests import Body, ExportParams, SampleLabelBody

TaskType = Literal["auto-label", "pre-label", "auto-grouping"]
TO_SAMPLES = 1
"""``result_type``: what auto-grouping finds is saved to samples."""
DEPLOY = "auto-deploy"
"""What the vendor's audit knows (``createAutoDeployTask``) and its reference has no operation for."""


class Flavor(Body):
    code: str | None = None


class ChosenSample(Body):
    """An unlabeled sample the task is about; `sample_id` says which."""

    sample_id: str = Field(pattern="^[0-9a-f]{32}$")
    labels: list[SampleLabelBody] | None = None
    metadata: dict[str, Any] | None = None
    sample_type: int | None = None
    sample_usage: str | None = None
    source: str | None = None
    worker_id: str | None = None


class InfConfig(Body):
    envs: dict[str, str] = Field(default_factory=dict)
    instance_count: int | None = None
    model_id: str | None = None
    specification: str | None = None
    weight: int | None = None


class TrainingParameter(Body):
    label: str | None = None
    value: str | None = None


class VendorConfig(Body):
    """Fields of the vendor's ``SmartTaskConfig`` that its clients send and that have no meaning here: what they tune
    (its training service, its deployment of models, its pools) is not how tasks work on this platform."""

    collect_rule: str | None = None
    collect_sample: bool | None = None
    engine_name: str | None = None
    export_format: int | None = None
    export_params: ExportParams | None = None
    inf_cluster_id: str | None = None
    inf_config_list: list[InfConfig] = Field(default_factory=list)
    manifest_path: str | None = None
    model_parameter: str | None = None
    parameters: list[TrainingParameter] = Field(default_factory=list)
    pool_id: str | None = None
    req_uri: str | None = None
    time: str | None = None
    train_data_path: str | None = None
    version_format: str | None = None
    worker_server_num: int | None = None


class SmartTaskConfig(VendorConfig):
    """What a task is told. `model_path`, `seed` and `ranked` are ours.

    `confidence_scope` (``0.00-0.50``) is the span of confidences that makes a sample a hard example; `stop_time` is in
    minutes; `samples` are the unlabeled samples to look at, all without it; `ranked` how many samples get a place in
    the order of labeling; `model_name` and `model_version` name a model as `model_id` does. With `result_type` 1
    samples keep the number of the group that auto-grouping puts them into, as their property `property`. What the task
    writes goes to the first of `OUTPUTS` that is given, its log to `log_url`.
    """

    name: str = Field("", max_length=100)
    description: str = Field("", max_length=256)
    algorithm_type: Literal["fast", "accurate"] = "accurate"
    confidence_scope: str = "0.00-0.50"
    flavor: Flavor = Field(default_factory=Flavor)
    model_id: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    model_path: str | None = None
    n_clusters: int | None = Field(None, ge=1, le=1000)
    ambiguity: bool = False
    image_brightness: bool = False
    image_colorfulness: bool = False
    samples: list[ChosenSample] = Field(default_factory=list, max_length=100_000)
    key_sample_output: str | None = None
    annotation_output: str | None = None
    inf_output: str | None = None
    infer_result_output_dir: str | None = None
    output_dir: str | None = None
    train_url: str | None = None
    log_url: str | None = None
    stop_time: int | None = Field(None, ge=1, le=100_000)
    seed: int = Field(0, ge=0, lt=2**31)
    ranked: int = Field(500, ge=0, le=10_000)
    property: str = Field("group", pattern=r"^[^@\x00-\x1f][^\x00-\x1f]{0,63}$")
    result_type: int = Field(0, ge=0, le=1)


OUTPUTS = ("annotation_output", "inf_output", "infer_result_output_dir", "output_dir", "train_url")
"""The vendor's names for folders of results, of labels, of an inference, of a training: one workload does all here."""


class NewTask(Body):
    task_type: TaskType | Literal["auto-deploy"]
    model_id: str | None = None
    collect_key_sample: bool = False
    config: SmartTaskConfig = Field(default_factory=SmartTaskConfig)


class Decided(Body):
    """A sample whose suggestions are confirmed as they are, or with these `labels` in their place."""

    sample_id: str = Field(pattern="^[0-9a-f]{32}$")
    labels: list[SampleLabelBody] | None = None


class Decision(Body):
    """Which suggestions are confirmed or discarded: the `samples` named, or with `all` those that pass the filters.

    The filters are those of the list; of a sample with several labels the least confident one counts.
    """

    samples: list[Decided] = Field(default_factory=list, max_length=10_000)
    all: bool = False
    label_name: str | None = None
    low_score: float | None = Field(None, ge=0, le=1)
    high_score: float | None = Field(None, ge=0, le=1)
    search_conditions: list[dict[str, Any]] = Field(default_factory=list)


class GroupLabels(Body):
    """The labels a whole group gets; samples of it that have labels keep theirs unless `relabel`."""

    labels: list[SampleLabelBody] = Field(min_length=1, max_length=100)
    relabel: bool = False
