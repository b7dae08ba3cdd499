"""New samples made of old ones: what was said of them follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from bottega_dataset.processing import audio, image_masks, image_shapes, images
from bottega_dataset.processing import augmentation_images as moving
from bottega_dataset.processing import augmentation_pixels as pixels
from bottega_dataset.processing import augmentation_sounds as sounds
from bottega_dataset.processing import augmentation_texts as words
from bottega_dataset.processing.processors import AUDIO, TEXT
from bottega_dataset.processing.trial import try_out
from bottega_dataset.sample import SIZE, Annotation, SampleRecord

from .conftest import FEATURE, MASK, SHAPE, Samples, box, drawn, png, sample, short, tone

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
