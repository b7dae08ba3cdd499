"""What every learner must do. Subclass this in your tests::

class TestMyLearner(LearnerContract):
    learner = MyLearner
    code = 0
    broken = b"no picture"

    def labeled(self):
        return [(record_of(name, label), content) for name, label, content in PICTURES]

    def unlabeled(self):
        return [(SampleRecord("s3://b/new.png"), content, {"cat"})]
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest

from bottega.testing.running import RunningPlatform
from bottega_dataset.kinds import Kinds
from bottega_dataset.learner import Answers, Learner, Lesson
from bottega_dataset.sample import Annotation, BadSample, SampleRecord

_HEAVY = {"numpy", "scipy", "sklearn", "PIL", "torch", "onnxruntime", "pandas"}


class LearnerContract:
    """Tests of `Learner`, on the platform of the ``running`` fixture, where its plugin must be on.

    `learner` is the class; `code` a type of datasets it learns; `broken` bytes no sample has (None: anything may be
    one). `labeled` gives samples with annotations and their bytes, enough to begin; `unlabeled` others, with the
    labels they have in truth. At least `right` of these must be found. Where annotations bear no labels,
    `told` gives what is to be found in their place.
    """

    learner: type[Learner]
    code: int
    broken: bytes | None
    right: float = 0.8

    def labeled(self) -> Sequence[tuple[SampleRecord, bytes]]:
        raise NotImplementedError

    def unlabeled(self) -> Sequence[tuple[SampleRecord, bytes, set[str]]]:
        raise NotImplementedError

    def told(self, one: Annotation) -> str:
        return one.name

    def lesson(self, annotation_type: str) -> Lesson:
        made = self.learner()
        known, new = self.labeled(), self.unlabeled()
        opened = [made.open(record, data) for record, data in known] + [made.open(r, data) for r, data, _ in new]
        features = made.features(opened, None)
        assert features.shape[0] == len(opened), "features has a row for each sample"
        return Lesson(
            labeled=opened[: len(known)],
            annotations=[record.annotations for record, _ in known],
            unlabeled=opened[len(known) :],
            labeled_features=features[: len(known)],
            unlabeled_features=features[len(known) :],
            annotation_type=annotation_type,
            accurate=True,
            seed=3,
            report=lambda part: None,
        )

    def learned(self, running: RunningPlatform) -> Answers:
        kind = Kinds.of_platform(running.platform("dataset")).of(self.code)
        return self.learner().suggest(self.lesson(kind.annotation_type))

    def answers(self, running: RunningPlatform) -> Answers:
        """What it said, learned once for all tests of the class."""
        known: Answers | None = vars(type(self)).get("_known")
        if known is None:
            known = self.learned(running)
            type(self)._known = known  # type: ignore[attr-defined]
        return known

    def test_it_describes_itself_and_is_offered(self, running: RunningPlatform) -> None:
        made = self.learner()
        assert made.id
        assert self.code in made.dataset_types
        assert made.minimum_labels >= 0 <= made.minimum_samples
        assert made.missing() == "", f"it cannot be tested here: {made.missing()}"
        found = getattr(import_module(self.learner.__module__), self.learner.__qualname__, None)
        assert found is self.learner, "a workload makes it from its module and class"
        offered = Kinds.of_platform(running.platform("dataset")).learners(self.code)
        assert made.id in [one.id for one in offered], "its plugin does not bring it"

    def test_reading_its_properties_loads_no_heavy_library(self) -> None:
        program = (
            f"from {self.learner.__module__} import {self.learner.__qualname__} as learner; import sys; "
            f"made = learner(); made.id, made.dataset_types, made.missing(); print(sorted({_HEAVY} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_it_says_which_sample_is_broken(self) -> None:
        if self.broken is not None:
            with pytest.raises(BadSample):
                self.learner().open(self.unlabeled()[0][0], self.broken)

    def test_it_answers_for_every_sample_with_what_the_type_allows(self, running: RunningPlatform) -> None:
        kind = Kinds.of_platform(running.platform("dataset")).of(self.code)
        answers = self.answers(running)
        new = self.unlabeled()
        assert len(answers.suggestions) == len(answers.uncertainty) == len(new)
        for (record, _, _), suggested, doubt in zip(new, answers.suggestions, answers.uncertainty, strict=True):
            kind.check_annotations(SampleRecord(record.source, list(suggested), property=record.property))
            assert all(one.confidence is not None and 0 <= one.confidence <= 1 for one in suggested)
            assert math.isfinite(doubt)
            assert 0 <= doubt <= 1
        assert answers.accuracy is None or 0 <= answers.accuracy <= 1
        assert answers.method

    def test_it_learns(self, running: RunningPlatform) -> None:
        new = self.unlabeled()
        said = [{self.told(one) for one in some} for some in self.answers(running).suggestions]
        found = sum(told == truth for told, (_, _, truth) in zip(said, new, strict=True))
        assert found >= self.right * len(new), f"{found} of {len(new)} were right"

    def test_the_same_lesson_gives_the_same_answers(self, running: RunningPlatform) -> None:
        first, second = self.answers(running), self.learned(running)
        assert _shown(first) == _shown(second)


def _shown(answers: Answers) -> list[Any]:
    return [[(one.name, one.confidence, one.property) for one in some] for some in answers.suggestions]
