"""What a worker left in a bucket of the user's, read with due distrust: anybody may have changed it since."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator

from bottega.errors import Conflict, NotFound
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset.processing.worker import REPORT

COUNTS = {"origin", "kept", "deleted", "modified", "added", "flagged", "unmodified", "unreadable"}
_LARGEST = 64 << 20
_PICTURE = re.compile(r"figures/(?!\.)[^/\\\x00-\x1f]+\.png")


class Report(BaseModel):
    """What the worker wrote when it was done."""

    origin: int
    kept: int
    deleted: int
    modified: int
    added: int
    flagged: int
    unmodified: int
    unreadable: int
    operators: list[dict[str, Any]]
    findings: dict[str, dict[str, Any]]

    @field_validator("findings")
    @classmethod
    def _with_pictures_beside(cls, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        # Their addresses are presigned for whoever looks at the report.
        for one in found.values():
            if "figure" in one and not _PICTURE.fullmatch(str(one["figure"])):
                raise ValueError(f"'{one['figure']}' is no picture beside the report")
        return found


class Outcome(BaseModel):
    """What became of one sample."""

    property: int
    sample_id: str = Field(alias="id")
    origin: str
    new: str
    notes: list[dict[str, Any]]


async def read_report(store: ObjectStore, folder: ObjectPath) -> Report:
    """Raises Conflict when there is none, or none such as the worker writes."""
    path = folder / REPORT
    try:
        size = (await store.head(path)).size
        if size > _LARGEST:
            raise Conflict(f"{path} has {size} bytes; a report has at most {_LARGEST >> 20} MB")
        return Report.model_validate_json(await store.get(path))
    except NotFound as e:
        raise Conflict(f"the worker left no report in {folder}") from e
    except ValidationError as e:
        raise Conflict(f"{path} is not what the worker wrote: {_first(e)}") from e


def read_outcome(line: bytes, file: ObjectPath, number: int) -> Outcome:
    """Raises Conflict for a line that is not such as the worker writes."""
    try:
        return Outcome.model_validate_json(line)
    except ValidationError as e:
        raise Conflict(f"{file}, line {number}, is not what the worker wrote: {_first(e)}") from e


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
