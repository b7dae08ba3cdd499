"""Bodies of requests, in the vendor's shapes (its public REST reference, "Starting Intelligent Tasks")."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from bottega_dataset.requests import Body, SampleLabelBody

TaskType = Literal["auto-label", "pre-label", "auto-grouping"]


class Flavor(Body):
    code: str | None = None


class ChosenSample(Body):
    sample_id: str = Field(pattern="^[0-9a-f]{32}$")


class SmartTaskConfig(Body):
    """Of the vendor's fields those that mean something here; `model_path`, `seed` and `ranked` are ours.

    `confidence_scope` (``0.00-0.50``) is the span of confidences that makes a sample a hard example; `stop_time` is in
    minutes; `samples` are the unlabeled samples to look at, all without it; `ranked` how many samples get a place in
    the order of labeling.
    """

    name: str = Field("", max_length=100)
    description: str = Field("", max_length=256)
    algorithm_type: Literal["fast", "accurate"] = "accurate"
    confidence_scope: str = "0.00-0.50"
    flavor: Flavor = Field(default_factory=Flavor)
    model_id: str | None = None
    model_path: str | None = None
    n_clusters: int | None = Field(None, ge=1, le=1000)
    ambiguity: bool = False
    image_brightness: bool = False
    image_colorfulness: bool = False
    samples: list[ChosenSample] = Field(default_factory=list, max_length=100_000)
    key_sample_output: str | None = None
    annotation_output: str | None = None
    stop_time: int | None = Field(None, ge=1, le=100_000)
    seed: int = Field(0, ge=0, lt=2**31)
    ranked: int = Field(500, ge=0, le=10_000)


class NewTask(Body):
    task_type: TaskType
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
