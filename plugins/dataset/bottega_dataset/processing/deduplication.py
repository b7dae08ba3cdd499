"""Deduplication: of samples that are the same, or nearly, one stays."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from bottega.hookspecs import hookimpl
from bottega_dataset.processing.cleansing import CleansingParams
from bottega_dataset.processing.processors import AUDIO, CLEANSING, IMAGE, SELECTION, TEXT, Processor
from bottega_dataset.processing.work import Item, Work


class SimilarityParams(CleansingParams):
    similarity_threshold: float = Field(
        0.95, ge=0.5, le=1, validation_alias=AliasChoices("similarity_threshold", "simlarity_threshold")
    )
    """From which likeness on two samples count as nearly the same; 1: only the same content does."""
    keep: Literal["first", "best"] = "first"
    """Which of them stays: the first, or the one with more annotations (then the first)."""
    do_validation: bool = True
    """Whether samples that cannot be read are dropped, too."""


class SimDeduplication(Processor):
    id, name = "SimDeduplication", "Deduplication"
    description = (
        "Samples that are the same (by content) or nearly: pictures by perceptual hashes (pHash and dHash), texts by "
        "MinHash over shingles, sounds by a fingerprint."
    )
    templates, sample_types = (SELECTION, CLEANSING), frozenset({IMAGE, TEXT, AUDIO})
    params = SimilarityParams
    needs = ("PIL", "numpy", "scipy", "imagehash", "datasketch")

    def process(self, work: Work, params: SimilarityParams) -> None:
        from bottega_dataset.processing import similarity

        order = work.items
        if params.keep == "best":
            order.sort(key=lambda item: -len(item.record.annotations))  # stable: of equals, the first
        doubles = similarity.exact(work, order)
        gone: set[Item] = {one.item for one in doubles}
        if params.similarity_threshold < 1:
            left = [item for item in order if item not in gone]
            doubles += similarity.near(work, left, params.similarity_threshold)
        for one in doubles:
            reason = f"{one.how} as {one.of.record.source[:200]}"
            params.apply(work, one.item, reason, duplicate_of=one.of.record.source[:500], likeness=one.likeness)
        if params.do_validation:
            for item in order:
                if item in work.unreadable:
                    work.drop(item, f"cannot be read: {work.unreadable[item]}")


@hookimpl
def bottega_dataset_processors() -> list[Processor]:
    return [SimDeduplication()]
