"""The bodies of requests. No official client speaks this part, so an unknown field is a mistake and is said so."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class DataRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    dataset_version_id: str | None = None
    path: str | None = None


class ConversionRequest(BaseModel):
    """What a user asks for; paths as text, one of the fields of `data` or neither."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = Field("", max_length=256)
    template_id: str
    input_path: str
    output_path: str
    options: dict[str, Any] = {}
    data: DataRequest = DataRequest()
    max_accuracy_loss: float = Field(0.01, ge=0, le=1)
    source_urn: str | None = None
    flavor: str | None = None
    workspace_id: str = "0"
