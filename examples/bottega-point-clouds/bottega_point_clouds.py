"""Point clouds, as laser scanners make them, with cuboids around the things in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, Field

from bottega.hookspecs import hookimpl
from bottega_dataset.extension_points import AnnotationKind, DatasetType
from bottega_dataset.sample import Annotation, BadSample, SampleRecord

Triple = Annotated[list[float], Field(min_length=3, max_length=3)]


class Cuboid(BaseModel):
    """Its middle and its size along x, y and z in meters, and how far it is turned around z, in radians."""

    center: Triple
    size: Triple
    yaw: float = Field(0.0, ge=-3.1416, le=3.1416)


class PointClouds(DatasetType):
    code = 910
    name = "point_cloud"
    sample_type = 10
    tags = ("Point cloud", "Cuboids")
    suffixes = (".pcd", ".ply")
    annotations = (AnnotationKind("cuboid", 910, schema=Cuboid),)
    companion = ".json"
    layout = "Beside each cloud (a.pcd) lies its list of cuboids (a.json); a cloud without one is unlabeled."

    def check_annotations(self, record: SampleRecord) -> None:
        super().check_annotations(record)
        for index, one in enumerate(record.annotations):
            if min((one.property or {})["size"]) <= 0:
                raise BadSample(f"annotation[{index}].property['size'] must be above 0 in each direction")

    def measures(self, record: SampleRecord) -> Mapping[str, float]:
        sizes = [(one.property or {})["size"] for one in record.annotations]
        return {"cuboids": len(sizes), "largest_m3": max(map(math.prod, sizes), default=0.0)}

    def expanded(self, record: SampleRecord, files: Mapping[str, bytes]) -> SampleRecord:
        found: list[Annotation] = []
        for one in record.annotations:
            if one.loc is None:
                found.append(one)
                continue
            try:
                cuboids = json.loads(files[one.loc])
                found += [replace(one, loc=None, name=cuboid.pop("label"), property=cuboid) for cuboid in cuboids]
            except (ValueError, TypeError, AttributeError, KeyError) as e:
                raise BadSample(f'{one.loc} is no list of {{"label": …, "center": …, "size": …}}: {e}') from e
        return replace(record, annotations=found)


@hookimpl
def bottega_dataset_types() -> list[DatasetType]:
    return [PointClouds()]
