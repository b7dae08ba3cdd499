"""Operators that look at samples and find what is wrong with them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from bottega_dataset.processing import audio
from bottega_dataset.processing.analysis import (
    AudioFeatures,
    BoxFeatures,
    ClassBalance,
    Duplicates,
    ImageFeatures,
    Readability,
    TextFeatures,
)
from bottega_dataset.processing.cleansing import Blurred, Exposure, Mislabeled, Silent, TooSmall, Unreadable
from bottega_dataset.processing.deduplication import SimDeduplication
from bottega_dataset.processing.processors import AUDIO, TEXT, ProcessingFailure
from bottega_dataset.processing.trial import try_out
from bottega_dataset.processing.validation import MetaValidation
from bottega_dataset.sample import SIZE, Annotation, SampleRecord

from .conftest import FEATURE, Samples, box, drawn, png, sample, short, texts, tone


def test_pictures_of_known_brightness_form_and_color(tmp_path: Path) -> None:
    given: Samples = [
        (sample("dark.png", "a"), png(Image.new("RGB", (100, 50), (10, 10, 10)))),
        (sample("light.jpg", "a"), png(Image.new("L", (50, 100), 200), "JPEG")),
        (sample("red.bmp", "b"), png(Image.new("RGB", (60, 60), (255, 0, 0)), "BMP")),
        (sample("sharp.png", "a", "b"), png(drawn(1))),
        (sample("cut.png"), png(drawn(2))[:60]),
        (sample("gone.png"), None),
    ]
    steps: list[Any] = [(ImageFeatures, {}), (ClassBalance, {}), (Readability, {})]
    done = try_out(tmp_path, steps, given, makes_samples=False)
    found = done.findings
    assert found["brightness"]["statistics"]["min"] == 10
    assert found["brightness"]["statistics"]["max"] == 200
    assert found["aspect_ratio"]["statistics"]["max"] == 2
    assert found["aspect_ratio"]["statistics"]["min"] == 0.5
    assert found["resolution"]["width"]["max"] == 100
    assert found["format"]["counts"] == {"BMP, color": 1, "JPEG, gray": 1, "PNG, color": 2}
    assert found["color_cast"]["extremes"]["high"][0]["source"].endswith("red.bmp")
    assert found["colorfulness"]["statistics"]["min"] == 0
    assert found["sharpness"]["statistics"]["max"] > 400
    assert found["sharpness"]["statistics"]["min"] < 1
    assert found["class_balance"]["counts"] == {"a": 3, "b": 2}
    assert (found["class_balance"]["imbalance"], found["class_balance"]["unlabeled"]) == (1.5, 2)
    assert found["readability"]["unreadable"] == 2
    reasons = {p["source"][-8:]: p["reason"] for p in found["readability"]["problems"]}
    assert "broken or cut off" in reasons["/cut.png"]
    assert "no such object" in reasons["gone.png"]
    figures = {name for name in done.files if name.endswith(".png")}
    assert {f"report/{one['figure']}" for one in found.values() if "figure" in one} == figures
    for name in figures:
        picture = np.asarray(Image.open(io.BytesIO(done.files[name])).convert("L"))
        assert picture.shape[1] > 500, "too small to read"
        assert picture.std() > 10, "nothing is drawn"


def test_boxes_of_known_size_and_overlap(tmp_path: Path) -> None:
    first = [box("a", 0, 0, 50, 50), box("b", 25, 0, 75, 50)]
    second = [box("a", 0, 0, 100, 100)]
    given: Samples = [
        (SampleRecord("s3://pets/1.png", first), png(Image.new("L", (100, 100)))),
        (SampleRecord("s3://pets/2.png", second), png(Image.new("L", (100, 100)))),
        (SampleRecord("s3://pets/3.png"), png(Image.new("L", (100, 100)))),
    ]
    found = try_out(tmp_path, [(BoxFeatures, {})], given).findings
    assert found["boxes_per_image"]["statistics"] | {"std": 0.5} == found["boxes_per_image"]["statistics"]
    assert found["box_area"]["statistics"]["min"] == 25
    assert found["box_area"]["statistics"]["max"] == 100
    assert found["box_stacking"]["statistics"]["max"] == 50
    assert found["box_stacking"]["statistics"]["min"] == 0
    assert found["shapes"]["counts"] == {"bndbox": 3}
    assert sum(map(sum, found["box_position"]["grid"])) == 3


def test_texts_and_sounds_of_known_length_and_level(tmp_path: Path) -> None:
    found = try_out(
        tmp_path / "texts", [(TextFeatures, {})], texts("one two", "one", "one two three four"), sample_type=TEXT
    ).findings
    assert found["text_length"]["statistics"]["min"] == 3
    assert found["text_length"]["statistics"]["max"] == 18
    assert found["word_count"]["statistics"]["median"] == 2
    assert found["words"]["counts"] == {"one": 3, "two": 2, "four": 1, "three": 1}
    given: Samples = [
        (sample("a.wav"), tone(seconds=1, level=0.5)),
        (sample("b.wav"), tone(seconds=3, level=0.05)),
        (sample("c.wav"), tone(seconds=2, level=0.0)),
    ]
    found = try_out(tmp_path / "sounds", [(AudioFeatures, {})], given, sample_type=AUDIO).findings
    assert (
        found["audio_length"]["statistics"] | {"min": 1, "median": 2, "max": 3} == found["audio_length"]["statistics"]
    )
    assert found["audio_rms"]["statistics"]["max"] == pytest.approx(-9.03, abs=0.02)  # 0.5 / √2
    assert found["audio_peak"]["statistics"]["max"] == pytest.approx(-6.02, abs=0.02)
    assert found["audio_silence"]["statistics"]["max"] == 100
    assert found["audio_format"]["counts"] == {"8000 Hz, 1 channel, int16": 3}


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_loudness_of_the_standards_own_tone(rate: int) -> None:
    """BS.1770: a sine of 997 Hz at full scale in one channel has -3.01 LUFS; half of it 6.02 less; in two 3.01 more."""
    at = np.arange(2 * rate) / rate
    sine = np.sin(2 * np.pi * 997 * at)[:, None]
    assert audio.loudness(audio.Sound(sine, rate, np.dtype("int16"))) == pytest.approx(-3.01, abs=0.05)
    assert audio.loudness(audio.Sound(sine / 2, rate, np.dtype("int16"))) == pytest.approx(-9.03, abs=0.05)
    both = np.hstack([sine, sine])
    assert audio.loudness(audio.Sound(both, rate, np.dtype("int16"))) == pytest.approx(0.0, abs=0.05)
    quiet = np.vstack([sine / 10, np.zeros_like(sine)])  # the gate leaves the silence out
    assert audio.loudness(audio.Sound(quiet, rate, np.dtype("int16"))) == pytest.approx(-23.01, abs=0.6)


def duplicates() -> Samples:
    """Twelve pictures: three known doubles (two exact, one by another format) and nine others."""
    originals: Samples = [(sample(f"{n}.png"), png(drawn(n))) for n in range(9)]
    return [
        *originals,
        (sample("same.png"), originals[0][1]),
        (sample("pixels.bmp"), png(drawn(1), "BMP")),
        (sample("nearly.jpg"), png(drawn(2), "JPEG")),
    ]


def test_three_known_duplicates_are_found(tmp_path: Path) -> None:
    found = try_out(tmp_path, [(Duplicates, {})], duplicates()).findings["duplicates"]
    assert found["counts"] == {"unique": 9, "the same": 2, "nearly the same": 1}
    pairs = {(g["of"][-5:], d["source"].rpartition("/")[2]) for g in found["groups"] for d in g["duplicates"]}
    assert pairs == {("0.png", "same.png"), ("1.png", "pixels.bmp"), ("2.png", "nearly.jpg")} or pairs == {
        ("/0.png"[-5:], "same.png"),
        ("/1.png"[-5:], "pixels.bmp"),
        ("/2.png"[-5:], "nearly.jpg"),
    }


# -- cleansing, deduplication, validation --------------------------------------------------------------------------


def test_what_is_blurred_dark_small_or_broken_is_left_out(tmp_path: Path) -> None:
    given: Samples = [
        *((sample(f"{n}.png"), png(drawn(n))) for n in range(4)),
        (sample("blur1.png"), png(drawn(5).filter(ImageFilter.GaussianBlur(4)))),
        (sample("blur2.png"), png(drawn(6).filter(ImageFilter.GaussianBlur(5)))),
        (sample("dark.png"), png(Image.fromarray(np.random.default_rng(0).integers(0, 25, (64, 64), np.uint8)))),
        (sample("tiny.png"), png(drawn(7).resize((12, 8)))),
        (sample("broken.png"), png(drawn(8))[:100]),
        (sample("gone.png"), None),
    ]
    steps: list[Any] = [(Unreadable, {}), (Blurred, {}), (Exposure, {}), (TooSmall, {})]
    done = try_out(tmp_path / "dropped", steps, given)
    reasons = {source.rpartition("/")[2]: reason for source, reason in done.dropped.items()}
    assert short(reasons) == ["blur1.png", "blur2.png", "broken.png", "dark.png", "gone.png", "tiny.png"]
    assert reasons["blur1.png"].startswith("blurred: its sharpness is")
    assert reasons["dark.png"].startswith("too dark")
    assert reasons["tiny.png"] == "too small: 12 x 8 pixels"
    assert "cut off" in reasons["broken.png"]
    assert [record.source[-5:] for record in done.records] == ["0.png", "1.png", "2.png", "3.png"]
    operators = {one["id"]: one["deleted"] for one in done.report["operators"]}
    assert operators == {"Unreadable": 2, "Blurred": 2, "Exposure": 1, "TooSmall": 1}
    flagged = [(cls, {"action": "flag"}) for cls, _ in steps]
    labeled: Samples = [(sample(r.source, "cat"), content) for r, content in given]
    done = try_out(tmp_path / "flagged", flagged, labeled)
    assert len(done.records) == 10
    assert short(r.source for r in done.records if r.annotations[0].hard) == short(reasons)


@pytest.mark.parametrize(
    ("threshold", "gone"), [(1, ["pixels.bmp", "same.png"]), (0.95, ["nearly.jpg", "pixels.bmp", "same.png"])]
)
def test_duplicates_are_left_out(tmp_path: Path, threshold: float, gone: list[str]) -> None:
    done = try_out(tmp_path, [(SimDeduplication, {"simlarity_threshold": threshold})], duplicates())
    assert short(done.dropped) == gone
    (note,) = next(r["notes"] for r in done.results if r["origin"].endswith("same.png"))
    assert (note["duplicate_of"], note["likeness"]) == ("s3://pets/0.png", 1.0)


def test_of_doubles_the_one_with_more_annotations_may_stay(tmp_path: Path) -> None:
    content = png(drawn(1))
    given: Samples = [(sample("bare.png"), content), (sample("said.png", "cat"), content)]
    assert short(try_out(tmp_path / "1", [(SimDeduplication, {})], given).dropped) == ["said.png"]
    assert short(try_out(tmp_path / "2", [(SimDeduplication, {"keep": "best"})], given).dropped) == ["bare.png"]


def test_texts_and_sounds_that_are_nearly_the_same(tmp_path: Path) -> None:
    long = "The quick brown fox jumps over the lazy dog while the cat watches from the garden wall. "
    given = texts(
        long, long.upper() + " ", long.replace("garden", "old"), "Something else altogether, quite different."
    )
    done = try_out(tmp_path / "texts", [(SimDeduplication, {"similarity_threshold": 0.75})], given, sample_type=TEXT)
    assert sorted(done.dropped.values()) == sorted(
        [f"the same content as {given[0][0].source}", f"nearly the same text as {given[0][0].source}"]
    )
    rng = np.random.default_rng(0)
    noise = np.cumsum(rng.normal(0, 0.05, 8000))
    noise = (noise - noise.mean()) / np.abs(noise).max() / 2

    def wav(values: Any) -> bytes:
        return audio.encode(audio.Sound(values[:, None], 8000, np.dtype("int16")))

    heard: Samples = [
        (sample("a.wav"), wav(noise)),
        (sample("louder.wav"), wav(noise * 1.5)),
        (sample("noisy.wav"), wav(noise + rng.normal(0, 0.0005, 8000))),
        (sample("other.wav"), wav(noise[::-1])),
        (sample("tone.wav"), tone()),
    ]
    done = try_out(tmp_path / "sounds", [(SimDeduplication, {"similarity_threshold": 0.8})], heard, sample_type=AUDIO)
    assert short(done.dropped) == ["louder.wav", "noisy.wav"]


def test_wrong_labels_of_digits_are_found(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits(n_class=4)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(digits.images))[:240]
    wrong = set(chosen[:12].tolist())
    given: Samples = []
    for at in chosen:
        label = (int(digits.target[at]) + (1 if at in wrong else 0)) % 4
        picture = Image.fromarray((digits.images[at] * 15).astype(np.uint8)).resize((32, 32))
        given.append((sample(f"{at}.png", f"d{label}"), png(picture)))
    done = try_out(tmp_path, [(Mislabeled, {"action": "drop"})], given)
    found = {int(source.rpartition("/")[2][:-4]) for source in done.dropped}
    assert len(found & wrong) >= 10, "most of the labels that are wrong"
    assert len(found - wrong) <= 3, "hardly any of those that are right"
    suggested = {
        int(r["origin"].rpartition("/")[2][:-4]): r["notes"][-1]["suggested"]
        for r in done.results
        if r["property"] == 2
    }
    assert all(suggested[at] == f"d{digits.target[at]}" for at in found & wrong)
    with pytest.raises(ProcessingFailure, match="at least two labels"):
        try_out(tmp_path / "few", [(Mislabeled, {})], given[:3])


def test_silence_is_left_out(tmp_path: Path) -> None:
    given: Samples = [
        (sample("a.wav"), tone()),
        (sample("b.wav"), tone(level=0.0)),
        (sample("c.wav"), tone(seconds=0.01)),
    ]
    done = try_out(tmp_path, [(Silent, {}), (TooSmall, {})], given, sample_type=AUDIO)
    assert short(done.dropped) == ["b.wav", "c.wav"]


def test_validation_of_pictures(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30), (90, 90, 90))
    inside, beyond, away = box("cat", 1, 1, 9, 9), box("cat", 30, 20, 60, 60), box("cat", 41, 31, 50, 50)
    given: Samples = [
        (SampleRecord("s3://pets/good.png", [inside]), png(image)),
        (SampleRecord("s3://pets/beyond.png", [inside, beyond, away]), png(image)),
        (SampleRecord("s3://pets/really.png", [inside]), png(image, "JPEG")),
        (SampleRecord("s3://pets/bomb.png", [inside]), png(Image.new("1", (14000, 14000)))),
        (SampleRecord("s3://pets/text.png", [inside]), b"no picture"),
        (SampleRecord("s3://pets/strange.png", [box("dog", 1, 1, 5, 5)]), png(image)),
        (SampleRecord("s3://pets/bare.png"), png(image)),
    ]
    rules = {"labels": ["cat"], "require_label": True, "image_max_width": 20}
    done = try_out(tmp_path / "1", [(MetaValidation, rules)], given)
    reasons = {source.rpartition("/")[2]: reason for source, reason in done.dropped.items()}
    assert reasons["really.png"] == "it is JPEG, and not what its name ends with"
    assert "more than 100 million pixels" in reasons["bomb.png"]
    assert "no picture of the formats" in reasons["text.png"]
    assert reasons["strange.png"] == "label 'dog' is none of cat"
    assert reasons["bare.png"] == "it bears no label"
    good, cut = done.records
    assert (good.property or {})[SIZE] == [20, 15, 3]
    assert Image.open(io.BytesIO(done.content(good))).size == (20, 15)
    assert (good.annotations[0].property or {})[FEATURE] == [[0.5, 0.5], [4.5, 4.5]]
    assert [(a.property or {})[FEATURE] for a in cut.annotations] == [[[0.5, 0.5], [4.5, 4.5]], [[15, 10], [20, 15]]]
    done = try_out(tmp_path / "2", [(MetaValidation, {"action": "flag"})], given)
    assert len(done.records) == 7


def test_validation_of_texts_and_sounds(tmp_path: Path) -> None:
    entity = Annotation("text_entity", "x", {"@modelarts:start_index": 0, "@modelarts:end_index": 4})
    beyond = Annotation("text_entity", "x", {"@modelarts:start_index": 2, "@modelarts:end_index": 40})
    given: Samples = [
        (SampleRecord("s3://pets/a.txt", [entity, beyond]), b"Rome is old"),
        (SampleRecord("s3://pets/b.txt"), b"\xff\xfe\x00"),
    ]
    done = try_out(tmp_path / "texts", [(MetaValidation, {})], given, sample_type=TEXT)
    assert [r.annotations for r in done.records] == [[entity]]
    assert "not UTF-8" in done.dropped["s3://pets/b.txt"]
    good = tone(seconds=1)
    lies = good[:40] + (10**6).to_bytes(4, "little") + good[44:]
    times = {"@modelarts:start_time": "00:00:00.100", "@modelarts:end_time": "00:00:03.000"}
    heard: Samples = [
        (SampleRecord("s3://pets/a.wav", [Annotation("audio_segmentation", "x", times)]), good),
        (sample("lies.wav"), lies),
        (sample("no.wav"), b"RIFFxxxxWAVEfmt "),
    ]
    done = try_out(tmp_path / "sounds", [(MetaValidation, {})], heard, sample_type=AUDIO)
    assert [r.annotations for r in done.records] == [[]]
    assert "header says 1000000 bytes" in done.dropped["s3://pets/lies.wav"]
