"""The bodies of requests, in the official client's shapes (sdk_spec §3.4)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from bottega.errors import Invalid
from bottega_notebook.settings import HOUR_MS
from bottega_notebook.views import IMAGE_ID

LeaseMs = Annotated[int, Field(ge=HOUR_MS, le=72 * HOUR_MS)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,20}$")]
Description = Annotated[str, Field(max_length=512, pattern=r"^[^<>]*$")]


class LeaseRequest(BaseModel):
    duration: LeaseMs = HOUR_MS
    type: Literal["TIMING"] = "TIMING"


class VolumeRequest(BaseModel):
    category: Literal["EVS"] = "EVS"
    ownership: Literal["MANAGED"] = "MANAGED"
    capacity: int = Field(5, ge=5, le=500)


class _WithImage(BaseModel):
    image_id: str | None = None

    def check_image(self) -> None:
        """Raises Invalid for any image but the one there is."""
        if self.image_id not in (None, "", IMAGE_ID):
            raise Invalid(f"there is no image '{self.image_id}'; the one there is has the id {IMAGE_ID}")


class CreateRequest(_WithImage):
    name: Name
    description: Description = ""
    feature: Literal["NOTEBOOK"] = "NOTEBOOK"
    flavor: str | None = None
    volume: VolumeRequest = VolumeRequest()
    duration: LeaseMs | None = None
    lease: LeaseRequest = LeaseRequest()
    workspace_id: str = "0"


class UpdateRequest(_WithImage):
    name: Name | None = None
    description: Description | None = None
    flavor: str | None = None
