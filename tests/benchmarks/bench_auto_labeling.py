"""How many labels by hand automatic labeling saves: ours in the order it asks for, against labels at random.

For each set of data and seed 30 % are held out, stratified: nobody sees anything of them, neither labels nor features,
until the end. The others are the dataset. ``full`` is the accuracy on the held-out part of a model trained on the
dataset with all its labels. Labels by hand are then added a few at a time; after each round the learner suggests the
labels of the rest, a model is trained on the dataset as it then stands (labels by hand and suggestions, all of them
taken as they are), and judged on the held-out part. What counts is how many labels by hand it takes to come within one
point of ``full``, and to be there still in the next round:

* ours: in the order of active learning (typical samples first, then what is uncertain and unlike the rest),
* at random: samples drawn at random, the same learner suggests,
* by hand only: samples drawn at random, nothing suggested; the model is trained on the labels by hand alone.

The second figure is that of a dataset: how many of all its labels are right then, and those of a confidence of 0.9.

scikit-learn's digits, breast cancer and wine are real; the texts are made here (synthetic).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from scipy.sparse import hstack, issparse
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bottega_dataset.learners.image import ImageLearner
from bottega_dataset.learners.table import TableLearner
from bottega_dataset.learners.text import vectorizers
from bottega_dataset.learning import order
from bottega_dataset.learning.classifier import learn
from bottega_dataset.sample import SampleRecord

SEEDS = range(5)
GOAL_SAVED = 0.70
SURE = 0.9
TOPICS, TEXTS = 4, 1200


@dataclass(frozen=True)
class Data:
    """`contents` are the samples as bytes, `y` their labels; learning begins with `first` labels and goes on by `step`.

    `features` gives the rows of the dataset and those of the held-out part; what it learns, it learns of the former.
    """

    name: str
    contents: Sequence[bytes]
    y: Any
    first: int
    step: int
    features: Callable[[Sequence[bytes], Sequence[bytes]], tuple[Any, Any]]


def apart(learner: Any) -> Callable[[Sequence[bytes], Sequence[bytes]], tuple[Any, Any]]:
    """Of learners whose rows say nothing of other samples: the two parts do not even meet."""

    def rows(contents: Sequence[bytes]) -> Any:
        return learner.features([learner.open(SampleRecord("content://x"), data) for data in contents], None)

    return lambda dataset, held_out: (rows(dataset), rows(held_out))


def by_words_of_the_dataset(dataset: Sequence[bytes], held_out: Sequence[bytes]) -> tuple[Any, Any]:
    """Words and how rare they are come from the dataset alone; words only the held-out part has do not count."""
    fitted = [one.fit([text.decode() for text in dataset]) for one in vectorizers()]
    return tuple(
        hstack([one.transform([text.decode() for text in part]) for one in fitted]).tocsr()
        for part in (dataset, held_out)
    )


def digits() -> Data:
    found = load_digits()
    files = []
    for pixels in found.images:
        file = io.BytesIO()
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(file, "PNG")
        files.append(file.getvalue())
    return Data("digits (images)", files, found.target, 20, 10, apart(ImageLearner()))


def rows(name: str, load: Callable[..., Any]) -> Data:
    found = load()
    contents = [json.dumps(dict(zip(found.feature_names, row, strict=True))).encode() for row in found.data.tolist()]
    return Data(f"{name} (rows)", contents, found.target, 6, 4, apart(TableLearner()))


def texts() -> Data:
    """Synthetic: a third of the words of a text come from its topic's 40, the others from 300 common ones."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnoprstuvw"))
    words = np.array(["".join(rng.choice(letters, rng.integers(4, 9))) for _ in range(300 + 40 * TOPICS)])
    rarity = 1 / np.arange(1, 41)
    y = rng.integers(0, TOPICS, TEXTS)
    contents = []
    for topic in y:
        length = rng.integers(10, 20)
        own = rng.choice(words[300 + 40 * topic : 340 + 40 * topic], length // 3, p=rarity / rarity.sum())
        common = rng.choice(words[:300], length - length // 3)
        contents.append(" ".join(rng.permutation(np.concatenate([own, common]))).encode())
    return Data("topics (synthetic texts)", contents, y, 8, 8, by_words_of_the_dataset)


def trained(x: Any, names: Any) -> Any:
    """The model a user trains on a labeled dataset, in miniature."""
    if issparse(x):
        return LogisticRegression(C=30, max_iter=500).fit(x, names)
    return make_pipeline(StandardScaler(), SVC(C=10)).fit(x, names)


@dataclass(frozen=True)
class Run:
    full: float
    pool: int
    active: int
    random: int
    bare: int
    right: float
    confirmed: float
    confirmed_right: float


def run(data: Data, seed: int) -> Run:
    every = np.arange(len(data.y))
    pool, held_out = train_test_split(every, test_size=0.3, stratify=data.y, random_state=seed)
    x, x_out = data.features([data.contents[i] for i in pool], [data.contents[i] for i in held_out])
    names, truth = data.y[pool].astype(str), data.y[held_out].astype(str)
    points = order.compact(x, seed)

    def suggested(known: Any) -> tuple[Any, Any, Any]:
        """What is said of the samples of the dataset that are not `known`: places, labels and probabilities."""
        rest = np.setdiff1d(np.arange(len(pool)), known)
        if not len(rest):
            return rest, names[:0], np.zeros((0, 1))
        found = learn(x[known], [[names[i]] for i in known], x[rest], seed=seed)
        return rest, np.array(found.labels)[found.probabilities.argmax(1)], found.probabilities

    def judged(places: Any, said: Any) -> float:
        if len(set(said)) < 2:
            return float((truth == said[0]).mean())
        return float((trained(x[places], said).predict(x_out) == truth).mean())

    full = judged(np.arange(len(pool)), names)

    def needed(start: Any, more: Callable[[Any, Any, Any], Any], *, by_hand_only: bool = False) -> Any:
        """The samples that must be labeled by hand."""
        known, reached = start, None
        while True:
            rest, said, probabilities = suggested(known) if not by_hand_only else (known[:0], names[:0], None)
            places, labels = np.concatenate([known, rest]), np.concatenate([names[known], said])
            if judged(places, labels) < full - 0.01:
                reached = None
            elif reached is None:
                reached = known
            else:
                return reached
            if len(known) >= len(pool):
                return reached if reached is not None else known
            known = np.concatenate([known, more(known, rest, probabilities)])

    def by_order(known: Any, rest: Any, probabilities: Any) -> Any:
        return rest[order.best(points[rest], order.uncertainty(probabilities), points[known], data.step)]

    shuffled = np.random.default_rng(seed).permutation(len(pool))

    def at_random(known: Any, rest: Any, probabilities: Any) -> Any:
        return shuffled[len(known) : len(known) + data.step]

    by_hand = needed(np.array(order.first(points, data.first, seed)), by_order)
    random = needed(shuffled[: data.first], at_random)
    bare = needed(shuffled[: data.first], at_random, by_hand_only=True)
    _, said, probabilities = suggested(by_hand)
    rest = np.setdiff1d(np.arange(len(pool)), by_hand)
    sure = probabilities.max(axis=1, initial=0) >= SURE
    right = said == names[rest]
    return Run(
        full=full,
        pool=len(pool),
        active=len(by_hand),
        random=len(random),
        bare=len(bare),
        right=(len(by_hand) + right.sum()) / len(names),
        confirmed=float(sure.mean()) if len(sure) else float("nan"),
        confirmed_right=float(right[sure].mean()) if sure.any() else float("nan"),
    )


def main() -> int:
    print(f"median of {len(SEEDS)} seeds; saved: of the labels of full labeling; goal >= {GOAL_SAVED:.0%}")
    print(
        f"{'':26}{'full':>7}{'labels':>8}{'by hand only':>14}{'at random':>11}{'ours':>7}{'saved':>8}"
        f"{'at random':>11}{'fewer':>8}  (seeds: ours)"
    )
    failed = 0
    for data in (digits(), rows("breast cancer", load_breast_cancer), rows("wine", load_wine), texts()):
        began = time.perf_counter()
        runs = [run(data, seed) for seed in SEEDS]
        full, pool = median(r.full for r in runs), runs[0].pool
        active, random, bare = (median(getattr(r, what) for r in runs) for what in ("active", "random", "bare"))
        saved = 1 - active / pool
        failed |= saved < GOAL_SAVED
        print(
            f"{data.name:26}{full:7.1%}{pool:8}{bare:14.0f}{random:11.0f}{active:7.0f}{saved:8.1%}"
            f"{1 - random / pool:11.1%}{1 - active / random:8.1%}  ({', '.join(str(r.active) for r in runs)};"
            f" {time.perf_counter() - began:.0f} s)"
        )
        confirmed, rightly = median(r.confirmed for r in runs), median(r.confirmed_right for r in runs if r.confirmed)
        print(
            f"{'':26}of all labels {median(r.right for r in runs):.1%} right when all suggestions are confirmed; "
            f"{confirmed:.0%} of these have a confidence >= {SURE}, {rightly:.1%} of them right",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
