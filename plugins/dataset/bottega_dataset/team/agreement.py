"""How far people agree who labeled the same samples.

Classes: Cohen's kappa of two people, Fleiss' of more (chance agreement taken off: 1 is full agreement, 0 what guessing
by the same frequencies gives). Shapes: intersection over union, best matches by label. Entities and intervals: F1 of
equal spans. Texts: F1 of words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from bottega_dataset.sample import Annotation

SHAPE, FEATURE = "@modelarts:shape", "@modelarts:feature"
START, END = "@modelarts:start_index", "@modelarts:end_index"
START_TIME, END_TIME = "@modelarts:start_time", "@modelarts:end_time"
CONTENT, FROM, TO = "@modelarts:content", "@modelarts:from", "@modelarts:to"
Box = tuple[float, float, float, float]
Labels = Sequence[Annotation]


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Of two people's classes of the same things (J. Cohen, 1960); None without any.

    1 when both said one and the same class of everything, where the formula has no value.
    """
    total = len(pairs)
    if not total:
        return None
    observed = sum(a == b for a, b in pairs) / total
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(first[one] * second[one] for one in first) / total**2
    return 1.0 if expected == 1 else (observed - expected) / (1 - expected)


def fleiss_kappa(ratings: Sequence[Sequence[Hashable]]) -> float | None:
    """Of several people's classes, as many of each thing (J. L. Fleiss, 1971); None without any.

    Raises ValueError when things have different numbers of ratings, or fewer than two.
    """
    if not ratings:
        return None
    each = len(ratings[0])
    if each < 2 or any(len(one) != each for one in ratings):
        raise ValueError("each thing needs the same number of ratings, two or more")
    counted = [Counter(one) for one in ratings]
    observed = sum((sum(n * n for n in one.values()) - each) / (each * (each - 1)) for one in counted) / len(counted)
    totals: Counter[Hashable] = sum(counted, Counter())
    expected = sum((n / (len(counted) * each)) ** 2 for n in totals.values())
    return 1.0 if expected == 1 else (observed - expected) / (1 - expected)


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (xmin, ymin, xmax, ymax)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return float(a == b)
    shared = width * height
    return shared / (_area(a) + _area(b) - shared)


def boxes_agreement(a: Labels, b: Labels) -> float:
    """The mean IoU of best matches of one label, what has no match counting as 0; 1 when both found nothing."""
    if not a and not b:
        return 1.0
    found = sorted(
        (
            (iou(_box(x), _box(y)), i, j)
            for i, x in enumerate(a)
            for j, y in enumerate(b)
            if x.name == y.name and _shape(x) == _shape(y)
        ),
        reverse=True,
    )
    taken_a, taken_b, total = set[int](), set[int](), 0.0
    for overlap, i, j in found:
        if overlap > 0 and i not in taken_a and j not in taken_b:
            taken_a.add(i)
            taken_b.add(j)
            total += overlap
    return total / max(len(a), len(b))


def spans_agreement(a: Labels, b: Labels) -> float:
    """F1 of what both say alike: label and place. 1 when both say nothing."""
    return _f1(Counter(map(_span, a)), Counter(map(_span, b)))


def texts_agreement(a: Labels, b: Labels) -> float:
    """F1 of the words in both transcripts."""
    return _f1(_words(a), _words(b))


def classes(labels: Labels) -> frozenset[str]:
    """What is said of a whole sample; several labels are a class of their own."""
    return frozenset(one.name for one in labels)


def kind_of(labels: Iterable[Annotation]) -> str:
    """How these annotations are compared: ``class``, ``iou``, ``span`` or ``text``."""
    for one in labels:
        prop = one.property or {}
        if FEATURE in prop:
            return "iou"
        if START in prop or START_TIME in prop or FROM in prop:
            return "span"
        if CONTENT in prop:
            return "text"
    return "class"


def similarity(a: Labels, b: Labels) -> float:
    """How alike two people's annotations of one sample are, 0 to 1."""
    kind = kind_of((*a, *b))
    if kind == "iou":
        return boxes_agreement(a, b)
    if kind == "span":
        return spans_agreement(a, b)
    if kind == "text":
        return texts_agreement(a, b)
    one, other = classes(a), classes(b)
    return len(one & other) / len(one | other) if one | other else 1.0


def representative(given: Mapping[int, Labels]) -> int:
    """Whose annotations of a sample agree best with the others', the first of equals: nobody's are mixed."""
    if len(given) == 1:
        return next(iter(given))
    scores = dict.fromkeys(given, 0.0)
    for a, b in combinations(given, 2):
        alike = similarity(given[a], given[b])
        scores[a] += alike
        scores[b] += alike
    return max(given, key=lambda worker: scores[worker])


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _shape(one: Annotation) -> Any:
    return (one.property or {}).get(SHAPE, "bndbox")


def _box(one: Annotation) -> Box:
    """The box around a shape."""
    points = [[float(x) for x in point] for point in (one.property or {}).get(FEATURE) or [[0, 0]]]
    if _shape(one) == "circle" and len(points) == 2 and len(points[1]) == 1:
        (x, y), (radius,) = points
        return x - radius, y - radius, x + radius, y + radius
    xs, ys = [point[0] for point in points], [point[-1] for point in points]
    return min(xs), min(ys), max(xs), max(ys)


def _span(one: Annotation) -> Hashable:
    prop = one.property or {}
    keys = (START, END, START_TIME, END_TIME, FROM, TO)
    return (one.name, one.type, *(str(prop.get(key, "")) for key in keys))


def _words(labels: Labels) -> Counter[Hashable]:
    text = " ".join(str((one.property or {}).get(CONTENT, "")) for one in labels).casefold()
    # Texts without blanks, such as Chinese ones, are compared by pairs of characters.
    words = text.split()
    return Counter(words if len(words) > 1 or len(text) < 2 else (a + b for a, b in pairwise(text)))


def _f1(a: Counter[Hashable], b: Counter[Hashable]) -> float:
    size = sum(a.values()) + sum(b.values())
    return 2 * sum((a & b).values()) / size if size else 1.0
