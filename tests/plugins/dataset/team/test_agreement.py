"""The figures of agreement, against values from the literature and by their properties."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega_dataset.sample import Annotation
from bottega_dataset.team.agreement import (
    boxes_agreement,
    cohen_kappa,
    fleiss_kappa,
    iou,
    representative,
    similarity,
    spans_agreement,
    texts_agreement,
)
from bottega_dataset.team.allocation import Allocator

CLASSES = st.lists(st.sampled_from("abc"), min_size=1, max_size=40)


def cls(*names: str) -> list[Annotation]:
    return [Annotation("image_classification", name) for name in names]


def box(name: str, *corners: float) -> Annotation:
    x1, y1, x2, y2 = corners
    prop = {"@modelarts:shape": "bndbox", "@modelarts:feature": [[x1, y1], [x2, y2]]}
    return Annotation("object_detection", name, prop)


def span(name: str, start: int, end: int) -> Annotation:
    return Annotation("text_entity", name, {"@modelarts:start_index": start, "@modelarts:end_index": end})


def test_cohens_kappa_of_the_known_example() -> None:
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)


def test_fleiss_kappa_of_his_own_example() -> None:
    rows = ["0 0 0 0 14", "0 2 6 4 2", "0 0 3 5 6", "0 3 9 2 0", "2 2 8 1 1"]
    rows += ["7 7 0 0 0", "3 2 6 3 0", "2 5 3 2 2", "6 5 2 1 0", "0 2 2 3 7"]
    ratings = [[c for c, n in enumerate(row.split()) for _ in range(int(n))] for row in rows]
    assert fleiss_kappa(ratings) == pytest.approx(0.210, abs=0.0005)


@given(CLASSES)
def test_who_says_the_same_agrees_fully(said: list[str]) -> None:
    assert cohen_kappa([(one, one) for one in said]) == pytest.approx(1)
    assert fleiss_kappa([[one] * 3 for one in said]) == pytest.approx(1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=60))
def test_kappa_is_the_same_from_both_sides_and_never_above_1(pairs: list[tuple[str, str]]) -> None:
    value = cohen_kappa(pairs)
    assert value is not None
    assert -1 <= value <= 1
    assert cohen_kappa([(b, a) for a, b in pairs]) == pytest.approx(value)


def test_who_guesses_agrees_by_chance_only() -> None:
    rng = random.Random(4)
    draws: Sequence[list[str]] = [[rng.choice("aaab") for _ in range(3)] for _ in range(20_000)]
    assert cohen_kappa([(a, b) for a, b, _ in draws]) == pytest.approx(0, abs=0.03)
    assert fleiss_kappa(draws) == pytest.approx(0, abs=0.03)


def test_nothing_to_compare() -> None:
    assert cohen_kappa([]) is None
    assert fleiss_kappa([]) is None
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([["a", "b"], ["a"]])


def test_boxes_are_compared_by_overlap_and_label() -> None:
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    a = [box("cat", 0, 0, 10, 10), box("dog", 20, 20, 30, 30)]
    assert boxes_agreement(a, a[::-1]) == 1
    assert boxes_agreement(a, a[:1]) == 0.5
    assert boxes_agreement(a, [box("dog", 0, 0, 10, 10)]) == 0
    assert boxes_agreement([], []) == 1
    circle = {"@modelarts:shape": "circle", "@modelarts:feature": [[5, 5], [5]]}
    assert boxes_agreement([Annotation("t", "o", circle)], [Annotation("t", "o", circle)]) == 1


BOXES = st.lists(
    st.builds(
        lambda n, x, y, w, h: box(n, x, y, x + w, y + h),
        st.sampled_from(["cat", "dog"]),
        *[st.integers(0, 20)] * 2,
        *[st.integers(1, 20)] * 2,
    ),
    max_size=4,
)


@given(BOXES, BOXES)
def test_overlap_is_symmetric_bounded_and_full_with_itself(a: list[Annotation], b: list[Annotation]) -> None:
    assert boxes_agreement(a, a) == pytest.approx(1)
    assert boxes_agreement(a, b) == pytest.approx(boxes_agreement(b, a))
    assert 0 <= similarity(a, b) <= 1


def test_spans_and_texts() -> None:
    a, b = [span("PER", 0, 5), span("LOC", 9, 12)], [span("PER", 0, 5), span("LOC", 9, 13)]
    assert spans_agreement(a, b) == 0.5
    assert similarity(a, a) == 1
    said = [Annotation("audio_content", "", {"@modelarts:content": text}) for text in ("the cat sat", "the cat sits")]
    assert texts_agreement(said[:1], said[1:]) == pytest.approx(2 / 3)


def test_the_labels_of_the_majority_stand_for_all() -> None:
    assert representative({1: cls("dog"), 2: cls("cat"), 3: cls("cat")}) == 2
    assert representative({1: cls("dog")}) == 1
    close = {1: [box("cat", 0, 0, 10, 10)], 2: [box("cat", 1, 0, 11, 10)], 3: [box("cat", 5, 0, 15, 10)]}
    assert representative(close) == 2


@given(
    st.dictionaries(st.integers(1, 9), st.floats(0.5, 4), min_size=1, max_size=5),
    st.integers(1, 3),
    st.integers(1, 60),
)
def test_samples_are_given_out_in_proportion_to_weight(weights: dict[int, float], repetition: int, n: int) -> None:
    allocator = Allocator(weights, repetition)
    given_out = [allocator.allocate() for _ in range(n)]
    each = min(repetition, len(weights))
    assert all(len(set(workers)) == each for workers in given_out)
    if repetition == 1:
        total = sum(weights.values())
        for worker, weight in weights.items():
            assert abs(allocator.loads[worker] - n * weight / total) <= len(weights)


def test_samples_of_a_label_go_to_those_who_know_it() -> None:
    allocator = Allocator({1: 1, 2: 1, 3: 1}, 1, of_label={"cat": [2]})
    assert [allocator.allocate(["cat"]) for _ in range(3)] == [[2]] * 3
    assert sorted(w for _ in range(4) for w in allocator.allocate(["dog"])) == [1, 1, 3, 3]
    twice = Allocator({1: 1, 2: 1, 3: 1}, 2, of_label={"cat": [3]})
    assert twice.allocate(["cat"]) == [3, 1]
    assert 1 not in twice.allocate(having=[1])
