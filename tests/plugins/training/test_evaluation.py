"""The figures of an evaluation against scikit-learn's, and the files that are refused."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from bottega.errors import Invalid
from bottega_training.evaluation import read_evaluation, read_metrics

LABELS = ["a", "b", "c", "d"]
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(pairs)
@settings(deadline=None, max_examples=60)
def test_figures_equal_those_of_scikit_learn(found: list[tuple[str, str]]) -> None:
    truth, guess = [t for t, _ in found], [g for _, g in found]
    result = read_evaluation(json.dumps({"y_true": truth, "y_pred": guess}).encode())
    labels = sorted({*truth, *guess})
    assert [label.label for label in result.labels] == labels
    assert result.confusion_matrix == confusion_matrix(truth, guess, labels=labels).tolist()
    precision, recall, f1, support = precision_recall_fscore_support(truth, guess, labels=labels, zero_division=0)
    assert [label.precision for label in result.labels] == pytest.approx(precision.tolist())
    assert [label.recall for label in result.labels] == pytest.approx(recall.tolist())
    assert [label.f1 for label in result.labels] == pytest.approx(f1.tolist())
    assert [label.support for label in result.labels] == support.tolist()
    assert result.precision == pytest.approx(precision.mean())
    assert result.recall == pytest.approx(recall.mean())
    assert result.f1 == pytest.approx(f1.mean())
    assert result.accuracy == pytest.approx(sum(t == g for t, g in found) / len(found))
    assert result.sample_count == len(found)


def test_confusion_matrix_alone_gives_the_same_figures() -> None:
    chance = random.Random(1)
    truth = [chance.choice(LABELS) for _ in range(200)]
    guess = [t if chance.random() < 0.8 else chance.choice(LABELS) for t in truth]
    from_pairs = read_evaluation(json.dumps({"labels": LABELS, "y_true": truth, "y_pred": guess}).encode())
    given_matrix = {"labels": LABELS, "confusion_matrix": from_pairs.confusion_matrix}
    assert read_evaluation(json.dumps(given_matrix).encode()) == from_pairs


def test_numbers_can_be_labels_and_mistakes_are_limited() -> None:
    content = {"y_true": [1] * 1500, "y_pred": [2] * 1500, "samples": [f"s{i}" for i in range(1500)]}
    result = read_evaluation(json.dumps(content).encode())
    assert [label.label for label in result.labels] == ["1", "2"]
    assert len(result.mistakes) == 1000
    assert result.mistakes[0].sample == "s0"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "evaluation.json"),
        ('{"y_true": ["a"]}', "y_true and y_pred"),
        ('{"y_true": ["a"], "y_pred": []}', "1 labels and y_pred 0"),
        ('{"y_true": ["a"], "y_pred": ["a"], "samples": []}', "samples has 0"),
        ('{"labels": ["a"], "y_true": ["a"], "y_pred": ["b"]}', "'b' is not among labels"),
        ('{"confusion_matrix": [[1]]}', "needs labels"),
        ('{"labels": ["a", "b"], "confusion_matrix": [[1, 2]]}', "one row and column"),
        ('{"labels": ["a"], "confusion_matrix": [[-1]]}', "negative"),
        (json.dumps({"y_true": list(range(1001)), "y_pred": [0] * 1001}), "more than 1000 labels"),
    ],
)
def test_malformed_evaluation_says_what_is_wrong(content: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        read_evaluation(content.encode())


def test_metrics_are_numbers_by_name() -> None:
    assert read_metrics(b'{"loss": 1, "psnr": 2.5}') == {"loss": 1.0, "psnr": 2.5}
    for wrong in (b"[1]", b'{"a": "x"}', b'{"a": true}', b"NaN"):
        with pytest.raises(Invalid, match=r"metrics\.json"):
            read_metrics(wrong)
