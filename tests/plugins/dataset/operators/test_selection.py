"""Operators that choose samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from PIL import Image

from bottega_dataset.processing.selection import (
    BalancedSelection,
    DiverseSelection,
    HardSelection,
    RandomSelection,
    StratifiedSelection,
)
from bottega_dataset.processing.trial import try_out
from bottega_dataset.sample import Annotation, SampleRecord

from .conftest import Samples, drawn, png, sample, short


def many() -> Samples:
    """Thirty of a, ten of b, five of c, five without a label."""
    names = ["a"] * 30 + ["b"] * 10 + ["c"] * 5 + [""] * 5
    return [(sample(f"{n}.png", *([name] if name else [])), b"x") for n, name in enumerate(names)]


def counted(records: list[SampleRecord]) -> Counter[str]:
    return Counter(r.annotations[0].name if r.annotations else "" for r in records)


def test_selections_by_chance_and_by_label(tmp_path: Path) -> None:
    kept = [
        [
            r.source
            for r in try_out(tmp_path / str(n), [(RandomSelection, {"sample_count": 7})], many(), seed=seed).records
        ]
        for n, seed in enumerate((1, 1, 2))
    ]
    assert [len(set(one)) for one in kept] == [7, 7, 7]
    assert kept[0] == kept[1]
    assert kept[0] != kept[2]
    done = try_out(tmp_path / "s", [(StratifiedSelection, {"sample_ratio": 0.4})], many())
    assert counted(done.records) == {"a": 12, "b": 4, "c": 2, "": 2}
    done = try_out(tmp_path / "b", [(BalancedSelection, {})], many())
    assert counted(done.records) == {"a": 5, "b": 5, "c": 5}
    assert "there are 30 of label 'a'; 5 stay" in done.dropped.values()


def test_the_most_different_and_the_hardest(tmp_path: Path) -> None:
    kinds = [Image.new("RGB", (32, 32), c) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255))] + [drawn(3, (32, 32))]
    given: Samples = [(sample(f"{n}.png"), png(kinds[n % 4])) for n in range(40)]
    done = try_out(tmp_path / "d", [(DiverseSelection, {"sample_count": 4})], given)
    assert {int(r.source.rpartition("/")[2][:-4]) % 4 for r in done.records} == {0, 1, 2, 3}
    certain: Samples = []
    for n, confidence in enumerate((0.9, 0.2, None, 0.5)):
        said = [Annotation("image_classification", "a", confidence=confidence, hard=n == 0 or None)]
        certain.append((SampleRecord(f"s3://pets/{n}.png", said), b"x"))
    done = try_out(tmp_path / "h", [(HardSelection, {"sample_count": 2})], certain)
    assert short(r.source for r in done.records) == ["1.png", "3.png"]
    done = try_out(tmp_path / "m", [(HardSelection, {"by": "hard"})], certain)
    assert short(r.source for r in done.records) == ["0.png"]
