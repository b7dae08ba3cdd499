"""Why a sample is a hard example: the vendor's numbers (``@modelarts:hard_reasons``), said and with what to do."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any

_NUMBER = re.compile("[0-9]{1,3}")


class Reason(IntEnum):
    NOTHING_FOUND = 0
    LOW_CONFIDENCE = 1
    UNLIKE_CLUSTER = 2
    UNLIKE_CLASS = 3
    UNLIKE_SIMILAR = 4
    RESOLUTION = 5
    ASPECT = 6
    BRIGHTNESS = 7
    SATURATION = 8
    COLORFULNESS = 9
    CLARITY = 10
    BOX_COUNT = 11
    BOX_AREA_DEVIATION = 12
    BOX_ASPECT = 13
    BOX_AREA = 14
    BOX_EDGE = 15
    BOX_BRIGHTNESS = 16
    BOX_CLARITY = 17
    BOX_STACKING = 18


FIGURES = {
    "resolution": Reason.RESOLUTION,
    "aspect": Reason.ASPECT,
    "brightness": Reason.BRIGHTNESS,
    "saturation": Reason.SATURATION,
    "colorfulness": Reason.COLORFULNESS,
    "clarity": Reason.CLARITY,
    "box_count": Reason.BOX_COUNT,
    "box_area_deviation": Reason.BOX_AREA_DEVIATION,
    "box_aspect": Reason.BOX_ASPECT,
    "box_area": Reason.BOX_AREA,
    "box_edge": Reason.BOX_EDGE,
    "box_brightness": Reason.BOX_BRIGHTNESS,
    "box_clarity": Reason.BOX_CLARITY,
    "box_stacking": Reason.BOX_STACKING,
}
"""Figures of a sample, by the reason a great shift from the labeled samples gives."""

_SHIFT = "its {} lies outside of what the labeled samples have"
_MORE_LIKE_IT = "label more samples like it"
TEXTS: dict[int, tuple[str, str]] = {
    Reason.NOTHING_FOUND: ("no object was found", "label it by hand, or confirm that there is none"),
    Reason.LOW_CONFIDENCE: ("the confidence is low", "label it by hand"),
    Reason.UNLIKE_CLUSTER: ("the labeled samples nearest in kind bear another label", "check the label"),
    Reason.UNLIKE_CLASS: ("it differs greatly from the labeled samples of its label", _MORE_LIKE_IT),
    Reason.UNLIKE_SIMILAR: ("samples much like it were given other labels", "label these samples together"),
    Reason.RESOLUTION: (_SHIFT.format("resolution"), _MORE_LIKE_IT),
    Reason.ASPECT: (_SHIFT.format("aspect ratio"), _MORE_LIKE_IT),
    Reason.BRIGHTNESS: (_SHIFT.format("brightness"), _MORE_LIKE_IT),
    Reason.SATURATION: (_SHIFT.format("saturation"), _MORE_LIKE_IT),
    Reason.COLORFULNESS: (_SHIFT.format("range of colors"), _MORE_LIKE_IT),
    Reason.CLARITY: (_SHIFT.format("clarity"), _MORE_LIKE_IT),
    Reason.BOX_COUNT: (_SHIFT.format("number of boxes"), _MORE_LIKE_IT),
    Reason.BOX_AREA_DEVIATION: (_SHIFT.format("spread of box areas"), _MORE_LIKE_IT),
    Reason.BOX_ASPECT: (_SHIFT.format("aspect ratio of boxes"), _MORE_LIKE_IT),
    Reason.BOX_AREA: (_SHIFT.format("part of the area in boxes"), _MORE_LIKE_IT),
    Reason.BOX_EDGE: (_SHIFT.format("nearness of boxes to the edge"), _MORE_LIKE_IT),
    Reason.BOX_BRIGHTNESS: (_SHIFT.format("brightness in boxes"), _MORE_LIKE_IT),
    Reason.BOX_CLARITY: (_SHIFT.format("clarity in boxes"), _MORE_LIKE_IT),
    Reason.BOX_STACKING: (_SHIFT.format("overlap of boxes"), _MORE_LIKE_IT),
}


def numbers(given: Any) -> list[int]:
    """The reasons of a sample or a label: a list of numbers, or a text of them with hyphens between (``3-20-21``)."""
    some = given.split("-") if isinstance(given, str) else given if isinstance(given, list) else []
    return [int(one) for one in some if _NUMBER.fullmatch(str(one))]
