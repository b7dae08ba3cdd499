"""Bodies of requests about teams and their tasks, in the vendor's shapes (its public REST reference)."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator

from bottega_dataset.requests import Body, NewDataset, SampleLabelsBody

_COMMENT = r"""^[^!<>=&"']{0,256}$"""
MOST_AT_ONCE = 10_000


class NewWorkforce(Body):
    workforce_name: str
    description: str = ""
    workspace_id: str | None = None


class WorkforceChange(Body):
    workforce_name: str | None = None
    description: str | None = None


class NewWorkers(Body):
    """`emails` is one address, or several separated by commas, semicolons or blanks, or a list."""

    emails: list[str] = Field(min_length=1, max_length=100)
    role: int = Field(ge=0, le=3)
    description: str = ""

    @field_validator("emails", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return [one for one in re.split(r"[,;\s]+", given) if one] if isinstance(given, str) else given


class WorkerChange(Body):
    description: str | None = None
    role: int | None = Field(None, ge=0, le=3)


class WorkerIds(Body):
    workers: list[str] = Field(min_length=1, max_length=1000)


class WorkerRef(Body):
    """A member by `worker_id` or `email`. `weight` is the part it gets of samples that are given out by weight."""

    worker_id: str | None = None
    email: str | None = None
    role: int | None = None
    weight: float = Field(1.0, gt=0, le=1e6)


class WorkforceConfig(Body):
    """A team, and those of its members who take part; none named: all."""

    workforce_id: str
    workforce_name: str | None = None
    workers: list[WorkerRef] = Field(default_factory=list, max_length=1000)


class WorkforcesConfig(Body):
    """`agency`: the team administrator (e-mail address or worker id) who is to start the task."""

    agency: str | None = None
    workforces: list[WorkforceConfig] = Field(default_factory=list, max_length=100)


class Allocation(Body):
    """How samples are given out: ``even``, by ``weight``, or by ``label`` (`labels`: whose samples of a label are)."""

    method: str = Field("even", pattern="^(even|weight|label)$")
    labels: dict[str, list[str]] = Field(default_factory=dict)


class NewTeamTask(Body):
    """`sample_conditions` is JSON of search conditions, as in the list of samples, or the conditions themselves."""

    task_name: str | None = None
    description: str = ""
    sample_conditions: str | list[dict[str, Any]] | dict[str, Any] | None = None
    sample_state: str | None = None
    workforces_config: WorkforcesConfig = Field(default_factory=WorkforcesConfig)
    repetition: int = Field(1, ge=1, le=100)
    auto_sync_dataset: bool = True
    data_sync_type: int | None = Field(None, ge=0, le=3)
    synchronize_data: bool = False
    synchronize_auto_labeling_data: bool = False
    allocation: Allocation = Field(default_factory=Allocation)
    seed: int = Field(0, ge=-(2**63), lt=2**63)


class NewTeamDataset(NewDataset):
    """A dataset that, if `workforce_information` is there, a team labels from the beginning."""

    workforce_information: NewTeamTask | None = None


class TeamTaskChange(Body):
    task_name: str | None = None
    description: str | None = None
    workforces_config: WorkforcesConfig | None = None


class TeamTaskStart(Body):
    workforces_config: WorkforcesConfig = Field(default_factory=WorkforcesConfig)


class TeamSampleLabels(SampleLabelsBody):
    """`worker_id`: in whose name; `revision`: that which the labels were read with, refused when it is not the last."""

    worker_id: str | None = None
    revision: int | None = None


class TeamSampleLabelsList(Body):
    email: str | None = None
    samples: list[TeamSampleLabels] = Field(min_length=1, max_length=MOST_AT_ONCE)


class SampleComment(Body):
    sample_id: str = Field(pattern="^[0-9a-f]{32}$")
    accept: bool
    comment: str = Field("", pattern=_COMMENT)
    score: str | None = Field(None, pattern="^[ABCD]$")
    worker_id: str | None = None


class Comments(Body):
    comments: list[SampleComment] = Field(min_length=1, max_length=MOST_AT_ONCE)


class NewAcceptance(Body):
    """Either how many samples are drawn, or which part of them. The same `seed` draws the same."""

    sampling_num: int | None = Field(None, ge=1)
    sampling_rate: float | None = Field(None, gt=0, le=1)
    seed: int = Field(0, ge=-(2**63), lt=2**63)


class AcceptanceStatus(Body):
    action: int = Field(ge=0, le=5)
    overwrite_last_result: bool = False


class MergeRequest(Body):
    """`overwrite_last_result`: also where somebody has changed the dataset's own labels meanwhile."""

    overwrite_last_result: bool = False


class Notification(Body):
    emails: list[str] = Field(min_length=1, max_length=200)


class LabelerLogin(Body):
    email: str = Field(max_length=254)
    password: str = Field(max_length=128)


class PasswordChange(Body):
    old_password: str = Field(max_length=128)
    new_password: str = Field(max_length=128)


class ForgottenPassword(Body):
    email: str = Field(max_length=254)


class PasswordReset(Body):
    email: str = Field(max_length=254)
    code: str = Field(max_length=64)
    new_password: str = Field(max_length=128)
