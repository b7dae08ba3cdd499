"""How well a model did on held-out samples: what a script writes, and the figures made of it (002 §5.5, table 5-22).

A job that evaluates writes ``evaluation.json`` into an output folder, in one of two forms::

    {"labels": ["cat", "dog"], "y_true": ["cat", …], "y_pred": ["dog", …], "samples": ["s3://…", …]}
    {"labels": ["cat", "dog"], "confusion_matrix": [[9, 1], [0, 10]]}

`labels` may be left out in the first form; `samples` (where each sample lies) too. Rows of the matrix are the true
labels, columns the predicted ones. Other figures go into ``metrics.json``: ``{"loss": 0.03}``.
"""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bottega.errors import Invalid

EVALUATION_FILE, METRICS_FILE = "evaluation.json", "metrics.json"
_MOST_MISTAKES = 1000
_MOST_LABELS = 1000
Label = str


class Written(BaseModel):
    """The content of ``evaluation.json``."""

    model_config = ConfigDict(coerce_numbers_to_str=True)
    labels: list[Label] | None = Field(None, max_length=_MOST_LABELS)
    y_true: list[Label] | None = None
    y_pred: list[Label] | None = None
    samples: list[str] | None = None
    confusion_matrix: list[list[int]] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Written:
        if self.confusion_matrix is not None:
            size = len(self.labels or ())
            if not size or [len(row) for row in self.confusion_matrix] != [size] * size:
                raise ValueError("confusion_matrix needs labels and one row and column for each of them")
            if any(count < 0 for row in self.confusion_matrix for count in row):
                raise ValueError("confusion_matrix holds negative numbers")
            return self
        if not self.y_true or self.y_pred is None:
            raise ValueError("give y_true and y_pred, or labels and confusion_matrix")
        if len(self.y_true) != len(self.y_pred):
            raise ValueError(f"y_true has {len(self.y_true)} labels and y_pred {len(self.y_pred)}; they must match")
        if self.samples is not None and len(self.samples) != len(self.y_true):
            raise ValueError(f"samples has {len(self.samples)} entries for {len(self.y_true)} labels")
        if len({*self.y_true, *self.y_pred}) > _MOST_LABELS:
            raise ValueError(f"more than {_MOST_LABELS} labels")
        strange = {*self.y_true, *self.y_pred} - set(self.labels) if self.labels else set()
        if strange:
            raise ValueError(f"label '{min(strange)}' is not among labels")
        return self


class LabelResult(BaseModel):
    """One label: of `predicted` samples taken for it, `misrecognized` are of other labels."""

    label: Label
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int
    misrecognized: int


class Mistake(BaseModel):
    sample: str
    label: Label
    predicted: Label


class Evaluation(BaseModel):
    """Figures of a classifier. `precision`, `recall` and `f1` are the plain means over the labels that occur."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    sample_count: int
    labels: list[LabelResult]
    confusion_matrix: list[list[int]]
    mistakes: list[Mistake] = []
    """The misrecognized samples, the first 1,000, when the job said where they lie."""

    @property
    def summary(self) -> dict[str, float]:
        return {"accuracy": self.accuracy, "precision": self.precision, "recall": self.recall, "f1": self.f1}


def read_evaluation(content: bytes) -> Evaluation:
    """Make the figures of ``evaluation.json``. Raises Invalid saying what is wrong with it."""
    try:
        written = Written.model_validate(orjson.loads(content))
    except orjson.JSONDecodeError as e:
        raise Invalid(f"{EVALUATION_FILE} is not JSON: {e}") from e
    except ValidationError as e:
        problem = e.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise Invalid(f"{EVALUATION_FILE}: {f'{where}: ' if where else ''}{problem['msg']}") from e
    if written.confusion_matrix is not None:
        return _figures(written.labels or [], written.confusion_matrix, [])
    truth, predicted = written.y_true or [], written.y_pred or []
    labels = written.labels or sorted({*truth, *predicted})
    place = {label: index for index, label in enumerate(labels)}
    matrix = [[0] * len(labels) for _ in labels]
    for true, guess in zip(truth, predicted, strict=True):
        matrix[place[true]][place[guess]] += 1
    wrong = (
        Mistake(sample=sample, label=true, predicted=guess)
        for sample, true, guess in zip(written.samples or (), truth, predicted, strict=False)
        if true != guess
    )
    return _figures(labels, matrix, [mistake for mistake, _ in zip(wrong, range(_MOST_MISTAKES), strict=False)])


def read_metrics(content: bytes) -> dict[str, float]:
    """The numbers of ``metrics.json``. Raises Invalid saying what is wrong with it."""
    try:
        found: Any = orjson.loads(content)
    except orjson.JSONDecodeError as e:
        raise Invalid(f"{METRICS_FILE} is not JSON: {e}") from e
    if not isinstance(found, dict) or not all(_is_number(v) for v in found.values()):
        raise Invalid(f'{METRICS_FILE} must be an object of numbers, such as {{"loss": 0.03}}')
    return {name: float(value) for name, value in found.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figures(labels: list[Label], matrix: list[list[int]], mistakes: list[Mistake]) -> Evaluation:
    size = range(len(labels))
    rows = [sum(matrix[i]) for i in size]
    columns = [sum(matrix[i][j] for i in size) for j in size]
    total, right = sum(rows), sum(matrix[i][i] for i in size)
    results = []
    for i in size:
        precision, recall = _share(matrix[i][i], columns[i]), _share(matrix[i][i], rows[i])
        results.append(
            LabelResult(
                label=labels[i],
                precision=precision,
                recall=recall,
                f1=_share(2 * matrix[i][i], rows[i] + columns[i]),
                support=rows[i],
                predicted=columns[i],
                misrecognized=columns[i] - matrix[i][i],
            )
        )
    present = [r for r in results if r.support or r.predicted]
    return Evaluation(
        accuracy=_share(right, total),
        precision=_share(sum(r.precision for r in present), len(present)),
        recall=_share(sum(r.recall for r in present), len(present)),
        f1=_share(sum(r.f1 for r in present), len(present)),
        sample_count=total,
        labels=results,
        confusion_matrix=matrix,
        mistakes=mistakes,
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
