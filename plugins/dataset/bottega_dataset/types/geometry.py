"""Shapes on images: what they are made of, and where they may lie (002 §2.3.2.2, tables 2-6 and 2-7)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, model_validator

from bottega_dataset.sample import BadSample

SHAPE, FEATURE, MASK = "@modelarts:shape", "@modelarts:feature", "@modelarts:mask"
POSE, TRUNCATED, OCCLUDED, DIFFICULT = (
    "@modelarts:pose",
    "@modelarts:truncated",
    "@modelarts:occluded",
    "@modelarts:difficult",
)
POINTS = {"point": (1, 1), "line": (2, 2), "dashed": (2, 2), "polyline": (2, None), "polygon": (3, None)}
"""The shapes made of points, with the least and the greatest number of them."""


def _finite(number: float) -> float:
    if number - number != 0:
        raise ValueError("a coordinate must be a finite number")
    return number


Number = Annotated[StrictInt | StrictFloat, AfterValidator(_finite)]
Flag = Literal[0, 1]


class VocProperty(BaseModel):
    """What PASCAL VOC says of an object besides its shape; further keys are the label's attributes."""

    model_config = ConfigDict(extra="allow")
    pose: str = Field("Unspecified", alias=POSE)
    truncated: Flag = Field(0, alias=TRUNCATED)
    occluded: Flag = Field(0, alias=OCCLUDED)
    difficult: Flag = Field(0, alias=DIFFICULT)


class ShapeProperty(VocProperty):
    """An object: `feature` has its points, of a ``bndbox`` the upper left and the lower right corner, of a
    ``circle`` the center and the radius. The origin is the upper left corner of the image."""

    shape: Literal["bndbox", "polygon", "circle", "line", "dashed", "point", "polyline"] = Field(alias=SHAPE)
    feature: list[list[Number]] = Field(alias=FEATURE)


class AreaProperty(VocProperty):
    """An area: a polygon, a mask (COCO's run lengths, or the path of a PNG), or both."""

    shape: Literal["polygon"] | None = Field(None, alias=SHAPE)
    feature: list[list[Number]] | None = Field(None, alias=FEATURE)
    mask: dict[str, Any] | str | None = Field(None, alias=MASK)

    @model_validator(mode="after")
    def _something(self) -> AreaProperty:
        if self.mask is None and self.feature is None:
            raise ValueError(f"an area needs {SHAPE} and {FEATURE}, or {MASK}")
        if (self.shape is None) != (self.feature is None):
            raise ValueError(f"{SHAPE} and {FEATURE} go together")
        return self


def check_shape(shape: str, feature: list[list[float]], size: tuple[int, int] | None, where: str) -> None:
    """Raises BadSample when such a shape is not made of these points, or they lie outside of an image of `size`."""
    place = f"{where}['{FEATURE}']"
    points = feature
    if shape == "circle":
        if [len(part) for part in feature] != [2, 1] or feature[1][0] <= 0:
            raise BadSample(f"{place}: a circle is [[cx, cy], [r]] with a radius above 0")
        points = feature[:1]
    elif any(len(part) != 2 for part in feature):
        raise BadSample(f"{place}: every point of a {shape} is [x, y]")
    elif shape == "bndbox":
        if len(feature) != 2 or feature[1][0] <= feature[0][0] or feature[1][1] <= feature[0][1]:
            raise BadSample(f"{place}: a bndbox is [[xmin, ymin], [xmax, ymax]], the maximum above the minimum")
    else:
        least, most = POINTS[shape]
        if len(feature) < least or (most is not None and len(feature) > most):
            raise BadSample(f"{place}: a {shape} has {least if most else f'at least {least}'} points")
    for x, y in points:
        if x < 0 or y < 0 or (size is not None and (x > size[0] or y > size[1])):
            known = f" of {size[0]} x {size[1]} pixels" if size else ""
            raise BadSample(f"{place}: the point [{x}, {y}] lies outside of the image{known}")


def extent(shape: str, feature: list[list[float]]) -> float:
    """The area of the upright box around a shape, in pixels."""
    if shape == "circle":
        return 4 * feature[1][0] * feature[1][0]
    xs, ys = [x for x, _ in feature], [y for _, y in feature]
    return (max(xs) - min(xs)) * (max(ys) - min(ys))


def measured(features: list[tuple[str, list[list[float]]]], size: tuple[int, int] | None) -> dict[str, float]:
    """How many shapes an image has and, where its size is known, which part of it the boxes around them take."""
    found: dict[str, float] = {"shapes": len(features)}
    if features and size is not None:
        found["shape_area"] = sum(extent(*one) for one in features) / len(features) / (size[0] * size[1])
    return found
