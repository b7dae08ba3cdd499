"""Augmentation of texts that keeps what they say; entities stay as they are, and their places follow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from bottega.hookspecs import hookimpl
from bottega_dataset.processing.processors import AUGMENTATION, TEXT, Params, Processor
from bottega_dataset.processing.work import Work
from bottega_dataset.sample import Annotation
from bottega_dataset.types.text import END, START

if TYPE_CHECKING:
    from numpy.random import Generator

Span = tuple[int, int]
Edit = tuple[int, int, str]
"""From, to, and what stands there instead."""


class TextParams(Params):
    copies: int = Field(1, ge=1, le=20)
    """How many new texts are made of each."""
    do_validation: bool = True
    """Whether samples that cannot be read are dropped; else they stay as they are."""


class RateParams(TextParams):
    rate: float = Field(0.1, gt=0, le=0.5)
    """The part of the words that is changed."""


class TextOperator(Processor):
    """Makes texts of texts; a subclass says what is replaced in one."""

    templates, sample_types = (AUGMENTATION,), frozenset({TEXT})
    params: ClassVar[type[TextParams]] = RateParams
    needs = ("numpy",)
    how: str

    @abstractmethod
    def edits(
        self, text: str, words: Sequence[Span], entities: Sequence[Span], draw: Generator, params: Any
    ) -> list[Edit]:
        """What to replace, in order, without overlap, outside of `entities`. `words` are those outside of them."""

    def process(self, work: Work, params: TextParams) -> None:
        from bottega_dataset.processing import texts

        items = work.original_items
        for item, text in work.read(texts.decode, items):
            spans = _spans(item.record.annotations)
            words = [
                (found.start(), found.end())
                for found in texts.WORD.finditer(text)
                if not any(start < found.end() and found.start() < end for start, end in spans)
            ]
            seen = {text}
            for copy in range(params.copies):
                edits = self.edits(text, words, spans, work.random(item, copy), params)
                made = _edited(text, edits)
                if made in seen or not made.strip():
                    continue
                seen.add(made)
                annotations = _followed(item.record.annotations, edits)
                work.add(item, f"{self.how} ({len(edits)})", content=made.encode(), annotations=annotations)
        for item in items:
            if item in work.unreadable and params.do_validation:
                work.drop(item, f"cannot be read: {work.unreadable[item]}")


def _spans(annotations: Sequence[Annotation]) -> list[Span]:
    return [(p[START], p[END]) for one in annotations if START in (p := one.property or {}) and END in p]


def _edited(text: str, edits: Sequence[Edit]) -> str:
    for start, end, instead in reversed(edits):
        text = text[:start] + instead + text[end:]
    return text


def _followed(annotations: Sequence[Annotation], edits: Sequence[Edit]) -> list[Annotation]:
    """Entities at the places they have after the edits, all of which lie outside of them."""
    found = []
    for one in annotations:
        prop = one.property or {}
        if START in prop and END in prop:
            by = sum(len(instead) - (end - start) for start, end, instead in edits if end <= prop[START])
            one = replace(one, property={**prop, START: prop[START] + by, END: prop[END] + by})
        found.append(one)
    return found


def _chosen(words: Sequence[Span], draw: Generator, rate: float, shortest: int = 1) -> list[Span]:
    fit = [word for word in words if word[1] - word[0] >= shortest]
    if not fit:
        return []
    number = max(1, round(rate * len(fit)))
    return [fit[at] for at in sorted(draw.permutation(len(fit))[:number])]


class TextTypos(TextOperator):
    id, name, description = "TextTypos", "Typing errors", "Exchanges two neighboring letters in some words."
    how = "letters exchanged"

    def edits(
        self, text: str, words: Sequence[Span], entities: Sequence[Span], draw: Generator, params: RateParams
    ) -> list[Edit]:
        found = []
        for start, end in _chosen(words, draw, params.rate, shortest=4):
            at = int(draw.integers(start + 1, end - 2))
            found.append((at, at + 2, text[at + 1] + text[at]))
        return found


class WordDropout(TextOperator):
    id, name, description = "WordDropout", "Word dropout", "Leaves out some words; never all of them."
    how = "words left out"

    def edits(
        self, text: str, words: Sequence[Span], entities: Sequence[Span], draw: Generator, params: RateParams
    ) -> list[Edit]:
        chosen = _chosen(words, draw, params.rate)
        if len(chosen) == len(words):
            chosen = chosen[:-1]
        taken = {start for start, _ in (*entities, *(word for word in words if word not in chosen))}
        found: list[Edit] = []
        for start, end in chosen:
            # One blank goes with the word, so that two do not stand side by side; not one that is an entity's.
            blank = text[end : end + 1] == " " and end not in taken
            found.append((start, end + 1 if blank else end, ""))
        return found


class CaseParams(TextParams):
    case: Literal["lower", "upper", "title"] = "lower"


class LetterCase(TextOperator):
    id, name, description = "LetterCase", "Letter case", "Writes the words outside of entities in another case."
    params = CaseParams
    how = "letters in another case"

    def edits(
        self, text: str, words: Sequence[Span], entities: Sequence[Span], draw: Generator, params: CaseParams
    ) -> list[Edit]:
        changed = [(start, end, getattr(text[start:end], params.case)()) for start, end in words]
        return [one for one in changed if one[2] != text[one[0] : one[1]]]


@hookimpl
def bottega_dataset_processors() -> list[Processor]:
    return [TextTypos(), WordDropout(), LetterCase()]
