"""The bodies of requests, in the official client's shapes (sdk_spec §3.4)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from bottega.addresses import parse_range
from bottega.errors import Invalid
from bottega_notebook.settings import HOUR_MS
from bottega_notebook.views import IMAGE_ID

LeaseMs = Annotated[int, Field(ge=HOUR_MS, le=72 * HOUR_MS)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,20}$")]
Description = Annotated[str, Field(max_length=512, pattern=r"^[^<>]*$")]


def _address(text: str) -> str:
    parse_range(text)
    return text


Address = Annotated[str, Field(max_length=100), AfterValidator(_address)]


class LeaseRequest(BaseModel):
    duration: LeaseMs = HOUR_MS
    type: Literal["TIMING"] = "TIMING"


class VolumeRequest(BaseModel):
    category: Literal["EVS"] = "EVS"
    ownership: Literal["MANAGED"] = "MANAGED"
    capacity: int = Field(5, ge=5, le=500)


class EndpointRequest(BaseModel):
    """How a notebook is reached: `allowed_access_ips` are addresses, networks (CIDR) or ranges (``first-last``)."""

    service: Literal["NOTEBOOK", "SSH"] = "NOTEBOOK"
    allowed_access_ips: list[Address] = Field(default=[], max_length=100)
    key_pair_names: list[str] = Field(default=[], max_length=10)


class _Reached(BaseModel):
    endpoints: list[EndpointRequest] | None = Field(None, max_length=10)

    def allowed_ips(self) -> list[str] | None:
        """The addresses that may open it, in whatever way; None when nothing is said."""
        if self.endpoints is None:
            return None
        return list(dict.fromkeys(address for e in self.endpoints for address in e.allowed_access_ips))

    def key_pairs(self) -> list[str] | None:
        """The names of the key pairs that open it over SSH; None when nothing is said.

        Raises Invalid for SSH without a key pair.
        """
        if self.endpoints is None:
            return None
        for place, endpoint in enumerate(self.endpoints):
            if endpoint.service == "SSH" and not endpoint.key_pair_names:
                raise Invalid(f"endpoints[{place}].key_pair_names: name a key pair of yours that opens it over SSH")
            if endpoint.service != "SSH" and endpoint.key_pair_names:
                raise Invalid(f"endpoints[{place}].key_pair_names: key pairs open a notebook by the service SSH")
        return [name for e in self.endpoints for name in e.key_pair_names]


class _WithImage(_Reached):
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
