"""Samples as vectors: simple features that need no pretrained weights, for choosing and for finding odd labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bottega_dataset.processing import audio, images, texts
from bottega_dataset.processing.processors import AUDIO, IMAGE, TEXT, ProcessingFailure
from bottega_dataset.processing.work import Item, Work

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    Matrix = NDArray[np.float64]

_SIDE, _CELLS, _DIRECTIONS = 16, 4, 8
_MELS = 32
_TOPICS = 64


def vectors(work: Work, items: Sequence[Item]) -> tuple[list[Item], Matrix]:
    """The items that can be read, and a row for each, every column of mean 0 and deviation 1 (or constant 0)."""
    if work.sample_type == IMAGE:
        found = [(item, of_image(image)) for item, image in work.read(images.decode, items)]
    elif work.sample_type == AUDIO:
        found = [(item, of_sound(sound)) for item, sound in work.read(audio.decode, items)]
    elif work.sample_type == TEXT:
        read = list(work.read(texts.decode, items))
        rows = of_texts([text for _, text in read])
        found = [(item, row) for (item, _), row in zip(read, rows, strict=True)]
    else:
        raise ProcessingFailure("samples of this type cannot be compared")
    if not found:
        return [], np.zeros((0, 1))
    matrix = np.array([row for _, row in found])
    spread = matrix.std(0)
    return [item for item, _ in found], (matrix - matrix.mean(0)) / np.where(spread > 1e-9, spread, 1)


def of_image(image: Image) -> NDArray[np.float64]:
    """16 × 16 gray values, the directions of edges in 4 × 4 cells, and how often which color occurs."""
    small = np.asarray(image.convert("L").resize((_SIDE, _SIDE), 2), np.float64) / 255
    middle = np.asarray(image.convert("L").resize((4 * _SIDE, 4 * _SIDE), 2), np.float64) / 255
    dy, dx = np.gradient(middle)
    strength, direction = (
        np.hypot(dx, dy),
        ((np.arctan2(dy, dx) / np.pi + 1) * _DIRECTIONS / 2).astype(int) % _DIRECTIONS,
    )
    cell = 4 * _SIDE // _CELLS
    edges = np.array(
        [
            np.bincount(
                direction[y : y + cell, x : x + cell].ravel(),
                strength[y : y + cell, x : x + cell].ravel(),
                _DIRECTIONS,
            )
            for y in range(0, 4 * _SIDE, cell)
            for x in range(0, 4 * _SIDE, cell)
        ]
    )
    edges /= np.linalg.norm(edges, axis=1, keepdims=True) + 1e-6
    color = np.asarray(image.convert("RGB").resize((32, 32), 2)).reshape(-1, 3) // 64
    colors = np.bincount(color @ np.array([16, 4, 1]), minlength=64) / len(color)
    return np.concatenate([small.ravel(), edges.ravel(), np.sqrt(colors)])


def of_sound(sound: audio.Sound) -> NDArray[np.float64]:
    """Mean and deviation of the energy in 32 bands, in dB, and the length."""
    from scipy.signal import spectrogram

    size = max(64, min(1024, len(sound.samples)))
    frequencies, _, power = spectrogram(sound.mono, sound.rate, nperseg=size, noverlap=size // 2)
    edges = np.geomspace(50, max(100.0, sound.rate / 2), _MELS + 1)
    bands = np.array([power[(frequencies >= a) & (frequencies < b)].sum(0) for a, b in pairwise(edges)])
    levels = 10 * np.log10(bands + 1e-10)
    return np.concatenate([levels.mean(1), levels.std(1), [np.log(sound.seconds + 0.01)]])


def of_texts(given: Sequence[str]) -> Matrix:
    """TF-IDF of pieces of words, reduced to at most 64 numbers (latent semantic analysis)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not given:
        return np.zeros((0, 1))
    table = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=20_000, sublinear_tf=True)
    sparse = table.fit_transform(given)
    size = min(_TOPICS, sparse.shape[1] - 1, len(given) - 1)
    if size < 2:
        dense: Matrix = sparse.toarray()
        return dense
    reduced: Matrix = TruncatedSVD(size, random_state=0).fit_transform(sparse)
    return reduced
