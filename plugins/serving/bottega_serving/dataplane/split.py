"""Which version answers the next request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Split(Generic[T]):
    """Smooth weighted round robin: any run of requests as long as the weights' sum is split exactly by them.

    The order is worked out once (nginx's algorithm), so that choosing costs one step.
    """

    def __init__(self, choices: Sequence[tuple[T, int]]) -> None:
        """:param choices: each with its weight; those of weight 0 are never chosen. At least one must be above 0."""
        weighted = [(choice, weight) for choice, weight in choices if weight > 0]
        if not weighted:
            raise ValueError("a split needs a weight above 0")
        divisor = math.gcd(*(weight for _, weight in weighted))
        weights = [weight // divisor for _, weight in weighted]
        total = sum(weights)
        current = [0] * len(weights)
        self._order: list[T] = []
        for _ in range(total):
            current = [have + weight for have, weight in zip(current, weights, strict=True)]
            best = max(range(len(weights)), key=current.__getitem__)
            current[best] -= total
            self._order.append(weighted[best][0])
        self._next = 0

    def choose(self) -> T:
        order = self._order
        position = self._next
        self._next = position + 1 if position + 1 < len(order) else 0
        return order[position]
