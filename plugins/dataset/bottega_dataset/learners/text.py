"""Learner of text classification: the words and the pieces of words, weighed by how rare they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import Classification, missing_library
from bottega_dataset.sample import Annotation, BadSample, SampleRecord

if TYPE_CHECKING:
    from bottega_dataset.learner import Learner

_MOST_FEATURES = 50_000
_MOST_CHARACTERS = 20_000


def text_of(record: SampleRecord, data: bytes) -> str:
    """Raises BadSample for what is not UTF-8, or empty."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise BadSample(f"{record.source} is not a text in UTF-8: {e.reason} at byte {e.start}") from e
    if not text.strip():
        raise BadSample(f"{record.source} is empty")
    return text


class TextLearner(Classification):
    id = "learner-text"
    dataset_types = frozenset({100})

    def open(self, record: SampleRecord, data: bytes) -> str:
        return text_of(record, data)[:_MOST_CHARACTERS]

    def features(self, opened: Sequence[str], backbone: str | None) -> Any:
        from scipy.sparse import hstack

        parts = []
        for vectorizer in vectorizers():
            try:
                parts.append(vectorizer.fit_transform(opened))
            except ValueError:  # of texts without a word, such as "!!!"
                continue
        return hstack(parts).tocsr() if parts else _lengths(opened)


class InText:
    """What learners share that look for places in texts."""

    def missing(self) -> str:
        return missing_library("sklearn")

    def open(self, record: SampleRecord, data: bytes) -> str:
        return text_of(record, data)

    def features(self, opened: Sequence[str], backbone: str | None) -> Any:
        return TextLearner().features(opened, backbone)

    def figures(self, opened: str, said: Sequence[Annotation]) -> Mapping[str, float]:
        return {}


def vectorizers() -> tuple[Any, Any]:
    """What weighs the words of texts, and what weighs the pieces of words; neither has learned any yet."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(
        token_pattern=r"(?u)\w+",  # noqa: S106  # a pattern, no password; words of one letter count in Chinese
        ngram_range=(1, 2),
        sublinear_tf=True,
        max_features=_MOST_FEATURES,
    )
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=_MOST_FEATURES)
    return words, pieces


def _lengths(opened: Sequence[str]) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix([[float(len(text))] for text in opened])


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [TextLearner()]
