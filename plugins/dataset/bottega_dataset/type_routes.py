"""``/v2/{project_id}/dataset-types``: what the types of this installation hold and what may be said in them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset.extension_points import AnnotationKind, DatasetType
from bottega_dataset.kinds import Kinds

_LABEL = {True: "required", None: "optional", False: "none"}


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()

    @routes.get("/v2/{project_id}/dataset-types")
    async def list_types(caller: Caller = requires("modelarts:dataset:list")) -> Any:
        """Every type with its samples, the JSON schema of each kind of annotation, and how a folder is read."""
        return {"dataset_types": [shape(kind, kinds) for kind in sorted(kinds.types.values(), key=lambda k: k.code)]}

    return routes


def shape(kind: DatasetType, kinds: Kinds) -> dict[str, Any]:
    """A type as the API shows it."""
    return {
        "dataset_type": kind.code,
        "name": kind.name,
        "sample_type": kind.sample_type,
        "tags": list(kind.tags),
        "suffixes": list(kind.suffixes),
        "texts": kind.texts,
        "annotations": [_annotation(one) for one in kind.annotations],
        "folder_labels": kind.folder_labels,
        "companion": kind.companion,
        "layout": kind.layout,
        "publishes_files": kind.has_files,
        "import_types": kinds.import_types(kind.code),
    }


def _annotation(one: AnnotationKind) -> dict[str, Any]:
    schema = one.schema.model_json_schema(by_alias=True) if one.schema else {"type": "object"}
    return {"type": one.type, "label_type": one.code, "label": _LABEL[one.label], "property": schema}
