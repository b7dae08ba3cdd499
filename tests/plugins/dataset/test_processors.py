"""The operators of processing tasks on samples whose answers are known, as the worker runs them."""

from __future__ import annotations

import io
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter
from scipy.io import wavfile

from bottega_dataset.processing import audio, image_masks, image_shapes, images
from bottega_dataset.processing import augmentation_images as moving
from bottega_dataset.processing import augmentation_pixels as pixels
from bottega_dataset.processing import augmentation_sounds as sounds
from bottega_dataset.processing import augmentation_texts as words
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
from bottega_dataset.processing.processors import AUDIO, IMAGE, TEXT, ProcessingFailure
from bottega_dataset.processing.selection import (
    BalancedSelection,
    DiverseSelection,
    HardSelection,
    RandomSelection,
    StratifiedSelection,
)
from bottega_dataset.processing.trial import try_out
from bottega_dataset.processing.validation import MetaValidation
from bottega_dataset.processing.work import Unreadable as NotRead
from bottega_dataset.sample import SIZE, Annotation, SampleRecord

SHAPE, FEATURE, MASK = "@modelarts:shape", "@modelarts:feature", "@modelarts:mask"
Samples = list[tuple[SampleRecord, bytes | None]]


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def drawn(seed: int, size: tuple[int, int] = (96, 64), shade: int = 128) -> Image.Image:
    """Sharp rectangles on an even ground, others for each seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, (shade,) * 3)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, width, height = (int(n) for n in rng.integers((0, 0, 8, 8), (size[0] - 24, size[1] - 24, 24, 24)))
        color = tuple(int(c) for c in rng.integers(0, 256, 3))
        draw.rectangle((x, y, x + width, y + height), fill=color)
    return image


def tone(hertz: float = 440, seconds: float = 0.5, level: float = 0.5, rate: int = 8000) -> bytes:
    at = np.arange(int(seconds * rate)) / rate
    out = io.BytesIO()
    wavfile.write(out, rate, np.round(level * np.sin(2 * np.pi * hertz * at) * 32767).astype(np.int16))
    return out.getvalue()


def sample(name: str, *labels: str, kind: str = "image_classification", **fields: Any) -> SampleRecord:
    source = name if "://" in name else f"s3://pets/{name}"
    return SampleRecord(source, [Annotation(kind, label) for label in labels], **fields)


def box(name: str, x0: float, y0: float, x1: float, y1: float) -> Annotation:
    return Annotation("object_detection", name, {SHAPE: "bndbox", FEATURE: [[x0, y0], [x1, y1]]})


def texts(*given: str) -> Samples:
    return [(sample(f"content://{one}", kind="text_classification"), None) for one in given]


def short(sources: Any) -> list[str]:
    return sorted(source.rpartition("/")[2] for source in sources)


# -- analysis ----------------------------------------------------------------------------------------------------


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


# -- selection -----------------------------------------------------------------------------------------------------


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


# -- augmentation --------------------------------------------------------------------------------------------------

MOVES: list[tuple[type[moving.ImageOperator], dict[str, Any]]] = [
    (moving.Flip, {"lr_ud": "lr"}),
    (moving.Flip, {"lr_ud": "ud"}),
    (moving.Rotate, {"angle_max": 45}),
    (moving.Crop, {"crop_percent_max": 0.3}),
    (moving.Scale, {"scaleXY": "XY"}),
    (moving.Resize, {"width": 150, "height": 70}),
    (moving.Translate, {"translateXY": "XY"}),
    (moving.Shear, {"shearXY": "Y"}),
    (moving.Padding, {"px_left": 7, "px_bottom": 3}),
]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    move=st.sampled_from(MOVES), seed=st.integers(0, 10**6), place=st.tuples(*[st.integers(0, 40)] * 2), data=st.data()
)
def test_shapes_follow_the_pixels(
    move: tuple[type[moving.ImageOperator], dict[str, Any]], seed: int, place: tuple[int, int], data: st.DataObject
) -> None:
    """A triangle is drawn and moved; where its polygon says it is now, are its pixels, and their extent is its box."""
    width, height = 120, 90
    x, y = place
    corners = np.array(
        [[x, y], [x + data.draw(st.integers(12, 60)), y + 4], [x + 8, y + data.draw(st.integers(12, 45))]]
    )
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).polygon([tuple(p) for p in corners.tolist()], fill=255)
    operator = move[0]()
    params = operator.read_params(move[1])
    made = operator.make(image, np.random.default_rng(seed), params)
    assert made is not None
    assert made.matrix is not None
    low, high = corners.min(0), corners.max(0)
    said = [
        Annotation("", "p", {SHAPE: "polygon", FEATURE: corners.tolist()}),
        Annotation("", "b", {SHAPE: "bndbox", FEATURE: [low.tolist(), high.tolist()]}),
        Annotation("", "c", {SHAPE: "circle", FEATURE: [corners[0].tolist(), [5]]}),
    ]
    after = image_shapes.transformed(said, made.matrix, *made.image.size, min_visible=0.0)
    found = {one.name: shape for one in after if (shape := image_shapes.shape_of(one))}
    there = np.asarray(made.image) > 127
    if not there.any():
        return
    rows, columns = np.nonzero(there)
    extent = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert np.abs(np.array(found["p"].extent) - extent).max() <= 2.5
    again = Image.new("L", made.image.size)
    ImageDraw.Draw(again).polygon([tuple(p) for p in found["p"].points.tolist()], fill=255)
    both = np.asarray(again) > 127
    assert (there & both).sum() / (there | both).sum() > 0.6
    bx0, by0, bx1, by1 = found["b"].extent
    assert bx0 <= extent[0] + 1.5
    assert by0 <= extent[1] + 1.5
    assert bx1 >= extent[2] - 2.5
    assert by1 >= extent[3] - 2.5
    for shape in found.values():
        assert (shape.points >= 0).all()
        assert (shape.points <= made.image.size).all()


@pytest.mark.parametrize(
    "move", [m for m in MOVES if m[0] in (moving.Flip, moving.Crop, moving.Translate, moving.Padding)]
)
@pytest.mark.parametrize("seed", range(8))
def test_boxes_follow_to_the_pixel(move: tuple[type[moving.ImageOperator], dict[str, Any]], seed: int) -> None:
    """A rectangle that covers 30 to 70 and 20 to 50: what is left of it has exactly the extent its box says."""
    image = Image.new("L", (100, 80))
    ImageDraw.Draw(image).rectangle((30, 20, 69, 49), fill=255)
    operator = move[0]()
    made = operator.make(image, np.random.default_rng(seed), operator.read_params(move[1]))
    assert made is not None
    assert made.matrix is not None
    (after,) = image_shapes.transformed([box("a", 30, 20, 70, 50)], made.matrix, *made.image.size, min_visible=0)
    rows, columns = np.nonzero(np.asarray(made.image) > 127)
    extent = [[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]
    assert (after.property or {})[FEATURE] == extent


def test_masks_follow_and_what_hardly_shows_is_left_out(tmp_path: Path) -> None:
    inside = np.zeros((60, 80), bool)
    inside[10:30, 5:25] = True
    image = Image.fromarray(np.where(inside, 255, 40).astype(np.uint8))
    area = Annotation("image_segmentation", "x", {MASK: image_masks.encode(inside)})
    assert (image_masks.decode(image_masks.encode(inside)) == inside).all()
    given: Samples = [(SampleRecord("s3://pets/a.png", [area], property={SIZE: [80, 60, 1]}), png(image))]
    done = try_out(tmp_path / "1", [(moving.Flip, {})], given)
    (made,) = done.added
    mirrored = image_masks.decode((made.annotations[0].property or {})[MASK])
    assert (mirrored == inside[:, ::-1]).all()
    assert (made.property or {})[SIZE][:2] == [80, 60]
    step = [(moving.Translate, {"translate_min": -24, "translate_max": -24})]
    assert try_out(tmp_path / "2", step, given).added[0].annotations == []


def test_new_pictures_are_the_same_for_the_same_seed_and_keep_their_labels(tmp_path: Path) -> None:
    given: Samples = [
        (sample("cat/a.png", "cat", usage="TRAIN"), png(drawn(1))),
        (sample("cut.png"), png(drawn(2))[:50]),
    ]
    steps: list[Any] = [(moving.Rotate, {"copies": 2}), (pixels.AddNoise, {}), (pixels.CutOut, {})]
    first, second, other = (try_out(tmp_path / n, steps, given, seed=s) for n, s in (("1", 5), ("2", 5), ("3", 6)))
    assert len(first.added) == 4
    assert {(r.annotations[0].name, r.usage) for r in first.added} == {("cat", "TRAIN")}
    assert short(first.dropped) == ["cut.png"]
    contents = [[one.content(r) for r in one.added] for one in (first, second, other)]
    assert contents[0] == contents[1]
    assert all(a != b for a, b in zip(contents[0], contents[2], strict=True))
    assert len(set(contents[0])) == 4
    for record in first.added:
        images.decode(first.content(record))


@pytest.mark.parametrize("operator", pixels.bottega_dataset_processors(), ids=lambda one: one.id)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_values_change_and_places_do_not(operator: moving.ImageOperator, mode: str) -> None:
    image = drawn(3).convert(mode)
    made = operator.make(image, np.random.default_rng(1), operator.read_params({}))
    assert made is not None
    assert made.matrix is None
    assert (made.image.size, made.image.mode) == (image.size, mode)
    if (operator.id, mode) not in (("Grayscale", "L"), ("Saturation", "L")):
        assert made.image.tobytes() != image.tobytes()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    parts=st.lists(st.text("abcDE xyZ,.ü猫", min_size=1, max_size=12), min_size=1, max_size=6),
    operator=st.sampled_from([words.TextTypos, words.WordDropout, words.LetterCase]),
    seed=st.integers(0, 1000),
)
def test_entities_stay_and_their_places_follow(parts: list[str], operator: type[words.TextOperator], seed: int) -> None:
    """Every second part is an entity; after any edit the text holds it at the place its annotation says."""
    entities, at = [], 0
    for number, part in enumerate(parts):
        if number % 2:
            prop = {"@modelarts:start_index": at, "@modelarts:end_index": at + len(part)}
            entities.append((part, Annotation("text_entity", "x", prop)))
        at += len(part)
    text = "".join(parts)
    one = operator()
    spans = words._spans([a for _, a in entities])
    from bottega_dataset.processing.texts import WORD

    free = [m.span() for m in WORD.finditer(text) if not any(s < m.end() and m.start() < e for s, e in spans)]
    edits = one.edits(
        text,
        free,
        spans,
        np.random.default_rng(seed),
        one.read_params({} if one.params is words.CaseParams else {"rate": 0.5}),
    )
    made = words._edited(text, edits)
    for (said, _), moved in zip(entities, words._followed([a for _, a in entities], edits), strict=True):
        prop = moved.property or {}
        assert made[prop["@modelarts:start_index"] : prop["@modelarts:end_index"]] == said


def test_new_texts(tmp_path: Path) -> None:
    given: Samples = [
        (sample("content://A quite ordinary sentence about dogs", "dog", kind="text_classification"), None)
    ]
    steps: list[Any] = [(words.TextTypos, {}), (words.WordDropout, {}), (words.LetterCase, {"case": "upper"})]
    made = try_out(tmp_path, steps, given, sample_type=TEXT, seed=1).added
    assert len(made) == 3
    assert made[2].source == "content://A QUITE ORDINARY SENTENCE ABOUT DOGS"
    assert len(made[1].source.split()) == 5
    assert {r.annotations[0].name for r in made} == {"dog"}


def test_new_sounds_and_their_stretches(tmp_path: Path) -> None:
    times = {"@modelarts:start_time": "00:00:00.200", "@modelarts:end_time": "00:00:00.800", "@modelarts:content": "hi"}
    said = [Annotation("audio_segmentation", "", times)]
    given: Samples = [(SampleRecord("s3://pets/a.wav", said), tone(seconds=1))]
    steps: list[Any] = [
        (sounds.SoundSpeed, {"speed_min": 2, "speed_max": 2}),
        (sounds.SoundGain, {"gain_min_db": -6.02, "gain_max_db": -6.02}),
        (sounds.SoundNoise, {"snr_db": 20}),
    ]
    done = try_out(tmp_path, steps, given, sample_type=AUDIO)
    fast, quiet, noisy = (audio.decode(done.content(record)) for record in done.added)
    assert fast.seconds == pytest.approx(0.5, abs=0.001)
    assert done.added[0].annotations[0].property == {
        "@modelarts:start_time": "00:00:00.100",
        "@modelarts:end_time": "00:00:00.400",
        "@modelarts:content": "hi",
    }
    original = audio.decode(given[0][1] or b"")
    assert audio.rms_db(quiet) - audio.rms_db(original) == pytest.approx(-6.02, abs=0.05)
    rest = audio.Sound(noisy.samples - original.samples, 8000, original.dtype)
    assert audio.rms_db(rest) - audio.rms_db(original) == pytest.approx(-20, abs=0.5)
    assert done.added[1].annotations == said


# -- hostile content -----------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["png", "jpg", "bmp", "wav", "junk"]),
    cut=st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
)
def test_whatever_a_file_holds_it_is_read_or_refused(kind: str, cut: int, flips: list[tuple[int, int]]) -> None:
    small = Image.new("RGB", (9, 7), (1, 200, 3))
    whole = {
        "png": png(small),
        "jpg": png(small, "JPEG"),
        "bmp": png(small, "BMP"),
        "wav": tone(seconds=0.02),
        "junk": bytes(range(256)),
    }[kind]
    content = bytearray(whole[: max(0, len(whole) - cut)])
    for at, value in flips:
        if at < len(content):
            content[at] = value
    for decode in (images.decode, audio.decode):
        with suppress(NotRead):
            decode(bytes(content))


def test_a_picture_is_read_upright() -> None:
    image = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    assert images.decode(out.getvalue()).size == (20, 40)


def test_which_samples_an_operator_understands() -> None:
    assert [one for one in (moving.Flip(), pixels.Blur()) if one.fits(TEXT) or not one.fits(IMAGE)] == []
