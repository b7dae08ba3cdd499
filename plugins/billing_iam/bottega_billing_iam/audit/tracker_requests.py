"""What the vendor's client sends about trackers, checked (`CreateTrackerRequestBody` and its like)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, StrictBool

from bottega.errors import Invalid, NotSupported

BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
NAME = r"^[A-Za-z0-9_.-]{1,64}$"


class ObsInfo(BaseModel):
    bucket_name: str | None = Field(default=None, pattern=BUCKET)
    file_prefix_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{0,64}$")
    is_obs_created: StrictBool = False
    bucket_lifecycle: int | None = None
    compress_type: Literal["gzip", "json"] = "gzip"
    is_sort_by_service: StrictBool = True


class DataBucket(BaseModel):
    data_bucket_name: str = Field(pattern=BUCKET)
    data_event: list[Literal["READ", "WRITE"]] = Field(default=["WRITE"], min_length=1)


class EventSelector(BaseModel):
    exclude_service: list[str] = Field(default=[], max_length=100)


class TrackerRequest(BaseModel):
    """A tracker to make or change; None leaves what is there."""

    tracker_type: Literal["system", "data"]
    tracker_name: str | None = Field(default=None, pattern=NAME)
    agency_name: str | None = Field(default=None, max_length=64)
    status: Literal["enabled", "disabled"] | None = None
    is_organization_tracker: StrictBool | None = None
    management_event_selector: EventSelector | None = None
    is_lts_enabled: StrictBool | None = None
    obs_info: ObsInfo | None = None
    is_support_trace_files_encryption: StrictBool | None = None
    kms_id: str | None = None
    is_support_validate: StrictBool | None = None
    data_bucket: DataBucket | None = None

    @property
    def name(self) -> str:
        """Raises Invalid when a data tracker has none, or the system tracker another than ``system``."""
        if self.tracker_type == "system":
            if self.tracker_name not in (None, "system"):
                raise Invalid(f"tracker_name: the system tracker is called 'system', not '{self.tracker_name}'")
            return "system"
        if self.tracker_name is None or self.tracker_name == "system":
            raise Invalid("tracker_name: give a data tracker a name, other than 'system'")
        return self.tracker_name

    @property
    def options(self) -> dict[str, Any]:
        """What is kept of it to be answered and used. Raises NotSupported for what there is not."""
        if self.is_organization_tracker:
            raise NotSupported("is_organization_tracker: there are no organizations; make a tracker in each account")
        if self.is_lts_enabled:
            raise NotSupported("is_lts_enabled: there is no log service; records are searched with list_traces")
        if self.is_support_trace_files_encryption or self.kms_id:
            raise NotSupported("copies are not encrypted by the trail; encrypt the bucket at the object store")
        if self.obs_info and self.obs_info.bucket_lifecycle is not None:
            raise NotSupported("obs_info.bucket_lifecycle: set the life of objects at the object store")
        if self.data_bucket and "READ" in self.data_bucket.data_event:
            raise NotSupported("data_bucket.data_event: reads that are allowed are not recorded; ask for WRITE")
        return self.model_dump(
            include={"agency_name", "management_event_selector", "obs_info", "is_support_validate", "data_bucket"},
            exclude_none=True,
        )


class Tag(BaseModel):
    key: str = Field(pattern=r"^[^=*<>\\,|/]{1,36}$")
    value: str | None = Field(default="", pattern=r"^[^=*<>\\,|/]{0,43}$")


class Tags(BaseModel):
    tags: list[Tag] = Field(min_length=1, max_length=20)


class BucketToCheck(BaseModel):
    bucket_name: str = Field(pattern=BUCKET)
    bucket_location: str | None = Field(default=None, max_length=64)
    kms_id: str | None = Field(default=None, max_length=64)
    is_support_trace_files_encryption: StrictBool | None = None


class BucketsToCheck(BaseModel):
    buckets: list[BucketToCheck] = Field(min_length=1, max_length=20)
