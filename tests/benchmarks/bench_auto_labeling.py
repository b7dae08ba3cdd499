"""How many labels by hand automatic labeling saves: ours in the order it asks for, against labels at random.

For each set of data and seed a part is held out (30 %). ``full`` is its accuracy when all the others are labeled.
Labels by hand are then added a few at a time until the accuracy is within one point of that, and in the next round
still is: in the order of active learning (typical samples first, then what is uncertain and unlike the rest), and at
random. Both use the same learner, which sees all samples and the labels so far, as in a dataset. The second figure is
that of a dataset: with these labels the others are labeled automatically; those of a confidence of 0.9 are confirmed.

scikit-learn's digits, breast cancer and wine are real; the texts are made here (synthetic).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import train_test_split

from bottega_dataset.learners.image import ImageLearner
from bottega_dataset.learners.table import TableLearner
from bottega_dataset.learners.text import TextLearner
from bottega_dataset.learning import order
from bottega_dataset.learning.classifier import learn
from bottega_dataset.sample import SampleRecord

SEEDS = range(5)
GOAL_SAVED = 0.70
SURE = 0.9
TOPICS, TEXTS = 4, 1200


@dataclass(frozen=True)
class Data:
    """`features` of all samples, `y` their labels; learning begins with `first` labels and goes on by `step`."""

    name: str
    features: Any
    y: Any
    first: int
    step: int


def opened(learner: Any, contents: list[bytes]) -> Any:
    return learner.features([learner.open(SampleRecord("content://x"), data) for data in contents], None)


def digits() -> Data:
    found = load_digits()
    files = []
    for pixels in found.images:
        file = io.BytesIO()
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(file, "PNG")
        files.append(file.getvalue())
    return Data("digits (images)", opened(ImageLearner(), files), found.target, 20, 10)


def rows(name: str, load: Callable[..., Any]) -> Data:
    found = load()
    contents = [json.dumps(dict(zip(found.feature_names, row, strict=True))).encode() for row in found.data.tolist()]
    return Data(f"{name} (rows)", opened(TableLearner(), contents), found.target, 6, 4)


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
    return Data("topics (synthetic texts)", opened(TextLearner(), contents), y, 8, 8)


@dataclass(frozen=True)
class Run:
    full: float
    pool: int
    active: int
    random: int
    right: float
    confirmed: float
    confirmed_right: float


def run(data: Data, seed: int) -> Run:
    names = np.array([str(label) for label in data.y])
    everything = np.arange(len(names))
    pool, held_out = train_test_split(everything, test_size=0.3, stratify=names, random_state=seed)
    points = order.compact(data.features, seed)

    def learned(known: Any) -> tuple[Any, Any, Any]:
        """What is said of the samples that are not `known`: their places, labels and probabilities."""
        rest = np.setdiff1d(everything, known)
        found = learn(data.features[known], [[names[i]] for i in known], data.features[rest], seed=seed)
        return rest, np.array(found.labels)[found.probabilities.argmax(1)], found.probabilities

    def accuracy(rest: Any, said: Any) -> float:
        tested = np.isin(rest, held_out)
        return float((said[tested] == names[rest[tested]]).mean())

    full = accuracy(*learned(pool)[:2])

    def needed(start: Any, more: Callable[[Any, Any, Any], Any]) -> tuple[int, Any]:
        """How many labels it takes, and the samples that bear them."""
        known, good = start, 0
        reached = start
        while True:
            rest, said, probabilities = learned(known)
            good = good + 1 if accuracy(rest, said) >= full - 0.01 else 0
            if good == 1:
                reached = known
            if good == 2 or len(known) >= len(pool):
                return (len(reached), reached) if good else (len(pool), pool)
            known = np.concatenate([known, more(known, rest, probabilities)])

    def by_order(known: Any, rest: Any, probabilities: Any) -> Any:
        able = np.isin(rest, pool)
        doubt = order.uncertainty(probabilities[able])
        chosen = order.best(points[rest[able]], doubt, points[known], data.step)
        return rest[able][chosen]

    shuffled = np.random.default_rng(seed).permutation(pool)

    def at_random(known: Any, rest: Any, probabilities: Any) -> Any:
        return shuffled[len(known) : len(known) + data.step]

    active, by_hand = needed(pool[order.first(points[pool], data.first, seed)], by_order)
    random, _ = needed(shuffled[: data.first], at_random)
    rest, said, probabilities = learned(by_hand)
    sure = probabilities.max(axis=1) >= SURE
    right = said == names[rest]
    return Run(
        full=full,
        pool=len(pool),
        active=active,
        random=random,
        right=(len(by_hand) + right.sum()) / len(names),
        confirmed=float(sure.mean()),
        confirmed_right=float(right[sure].mean()) if sure.any() else float("nan"),
    )


def main() -> int:
    print(f"median of {len(SEEDS)} seeds; saved: of the labels of full labeling; goal >= {GOAL_SAVED:.0%}")
    print(f"{'':26}{'full':>7}{'labels':>8}{'random':>8}{'ours':>7}{'saved':>8}{'at random':>10}{'fewer':>8}")
    failed = 0
    for data in (digits(), rows("breast cancer", load_breast_cancer), rows("wine", load_wine), texts()):
        began = time.perf_counter()
        runs = [run(data, seed) for seed in SEEDS]
        full, pool = median(r.full for r in runs), runs[0].pool
        active, random = median(r.active for r in runs), median(r.random for r in runs)
        saved = 1 - active / pool
        failed |= saved < GOAL_SAVED
        print(
            f"{data.name:26}{full:7.1%}{pool:8}{random:8.0f}{active:7.0f}{saved:8.1%}{1 - random / pool:10.1%}"
            f"{1 - active / random:8.1%}   ({time.perf_counter() - began:.0f} s)"
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
