"""What learns from labels: the protocol of learners, what they are given and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bottega_dataset.sample import Annotation, SampleRecord


@dataclass(frozen=True)
class Lesson:
    """Samples with the answers, and samples without. What is opened is what the learner's own `open` returned.

    `labeled_features` and `unlabeled_features` are the rows of its own `features`.
    `accurate` (002 §2.4.1: the API's ``algorithm_type``) asks to learn from the unlabeled samples as well; `report`
    is called with the part that is done, 0 to 1.
    """

    labeled: Sequence[Any]
    annotations: Sequence[Sequence[Annotation]]
    unlabeled: Sequence[Any]
    labeled_features: Any
    unlabeled_features: Any
    annotation_type: str
    accurate: bool
    seed: int
    report: Callable[[float], None]

    def answers(
        self,
        find: Callable[[Any], tuple[Sequence[Annotation], float]],
        accuracy: float | None,
        method: str,
        *,
        begun: float = 0.5,
    ) -> Answers:
        """Ask `find` about each unlabeled sample: its annotations and how uncertain they are; tell how far that is.

        :param begun: the part of the work that is done before, 0 to 1.
        """
        found: list[Sequence[Annotation]] = []
        doubts: list[float] = []
        every = max(1, len(self.unlabeled) // 100)
        for number, one in enumerate(self.unlabeled):
            annotations, doubt = find(one)
            found.append(annotations)
            doubts.append(doubt)
            if number % every == 0:
                self.report(begun + (1 - begun) * number / len(self.unlabeled))
        return Answers(found, doubts, accuracy, method)

    def nothing(self, why: str, accuracy: float | None = None) -> Answers:
        """No annotation for any sample, and why."""
        return Answers([[] for _ in self.unlabeled], [1.0] * len(self.unlabeled), accuracy, why)


@dataclass(frozen=True)
class Answers:
    """What a learner says: a list of annotations with confidences a sample (empty: nothing found).

    `uncertainty` is 0 to 1 a sample: how much its label by hand would teach. `accuracy` is what was measured on the
    labeled samples by holding some out, None where that was not possible; `method` says how the answers were found.
    """

    suggestions: Sequence[Sequence[Annotation]]
    uncertainty: Sequence[float]
    accuracy: float | None
    method: str


class Learner(Protocol):
    """Learns from the labeled samples of a dataset what the others are. It works in a workload of its own.

    The platform makes an instance without arguments, in its own process only to read the properties; so a learner
    imports heavy libraries in its methods. `minimum_labels` labels must have `minimum_samples` samples each before
    it can begin; a `minimum_labels` of 0 asks for `minimum_samples` labeled samples, whatever is said of them.
    `backbone` is the feature extractor its operator set for pictures (a local path), None without.
    """

    @property
    def id(self) -> str: ...

    @property
    def dataset_types(self) -> frozenset[int]: ...

    @property
    def minimum_labels(self) -> int: ...

    @property
    def minimum_samples(self) -> int: ...

    def missing(self) -> str:
        """Why it cannot work here, such as a library that is not installed; empty when it can."""
        ...

    def open(self, record: SampleRecord, data: bytes) -> Any:
        """A sample as it is worked with. `data` is its object, or its text. Raises BadSample."""
        ...

    def features(self, opened: Sequence[Any], backbone: str | None) -> Any:
        """A row of numbers a sample (an array or a sparse matrix): samples that are alike have rows that are near.

        It is given all samples at once and used for the order of labeling, hard examples and groups.
        """
        ...

    def figures(self, opened: Any, said: Sequence[Annotation]) -> Mapping[str, float]:
        """Figures hard examples are told by, of a sample of which `said` is said: ``resolution``, ``brightness``,
        ``box_count``, … (`hard_reasons.FIGURES`); or none."""
        ...

    def suggest(self, lesson: Lesson) -> Answers:
        """Annotations for the unlabeled samples."""
        ...
