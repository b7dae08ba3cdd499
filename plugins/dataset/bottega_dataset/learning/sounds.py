"""WAV sounds as rows of numbers, by numpy and scipy alone."""

from __future__ import annotations

import io
import wave
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.sample import BadSample

_RATE = 16_000
_FRAME, _HOP = 512, 256
_BANDS, _CEPSTRUM = 40, 13
MOST_S = 60
"""Of a longer sound the beginning is heard."""

STEP_S = 0.032
"""The time from one moment of `moments` to the next."""
_BLOCK = 4096
"""Frames that are looked at together: it bounds the memory a long sound takes."""


def row(data: bytes, name: str) -> NDArray[np.float64]:
    """Raises BadSample for what is no WAV file of whole numbers."""
    return summed_up(resampled(*samples(data, name)))


def summed_up(heard: NDArray[np.float64]) -> NDArray[np.float64]:
    """A row of numbers for a whole sound of the rate of `resampled`; its first minute counts."""
    heard = heard[: MOST_S * _RATE]
    frames = _frames(heard, _HOP) * np.hanning(_FRAME)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    bands, cepstrum = _cepstrum(power)
    change = np.diff(cepstrum, axis=0) if len(cepstrum) > 1 else np.zeros((1, _CEPSTRUM))
    total = power.sum(axis=1) + 1e-12
    middle = power @ np.linspace(0, 1, power.shape[1]) / total
    crossings = (np.diff(np.signbit(frames), axis=1) != 0).mean(axis=1)
    parts = [
        *_moments(cepstrum),
        *_moments(change),
        bands.mean(axis=0),
        *_moments(middle[:, None]),
        *_moments(crossings[:, None]),
        [np.log(total).mean(), np.log(total).std(), np.log1p(len(heard) / _RATE)],
    ]
    return np.concatenate(parts)


def moments(heard: NDArray[np.float64]) -> NDArray[np.float32]:
    """A row each `STEP_S` seconds of a sound of the rate of `resampled`: its cepstrum, loudness, and hiss.

    The first number is the loudness (logarithm of the energy).
    """
    frames = _frames(heard, round(STEP_S * _RATE))
    found = []
    for at in range(0, len(frames), _BLOCK):
        some = frames[at : at + _BLOCK] * np.hanning(_FRAME)
        power = np.abs(np.fft.rfft(some, axis=1)) ** 2
        total = power.sum(axis=1) + 1e-8
        middle = power @ np.linspace(0, 1, power.shape[1]) / total
        crossings = (np.diff(np.signbit(some), axis=1) != 0).mean(axis=1)
        # The first cepstral number is the loudness once more.
        found.append(np.column_stack([np.log(total), middle, crossings, _cepstrum(power)[1][:, 1:]]))
    return np.vstack(found).astype(np.float32)


def _frames(heard: NDArray[np.float64], hop: int) -> Any:
    from numpy.lib.stride_tricks import sliding_window_view

    if len(heard) < _FRAME:
        heard = np.pad(heard, (0, _FRAME - len(heard)))
    return sliding_window_view(heard, _FRAME)[::hop]


def _cepstrum(power: Any) -> tuple[Any, Any]:
    """The logarithms of the energy in the mel bands, and the first numbers of their cosine transform."""
    from scipy.fft import dct

    bands = np.log(power @ _mel().T + 1e-8)
    return bands, dct(bands, axis=1, norm="ortho")[:, :_CEPSTRUM]


def samples(data: bytes, name: str, most_s: int = MOST_S) -> tuple[NDArray[np.float64], int]:
    """The sound (at most `most_s` seconds of it) as numbers from -1 to 1, its channels mixed, and its rate in Hz."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(min(file.getnframes(), most_s * rate))
    except (wave.Error, EOFError, ValueError, MemoryError) as e:
        raise BadSample(f"{name} is not a WAV file that can be heard: {e}") from e
    if not rate or not raw or width not in (1, 2, 3, 4):
        raise BadSample(f"{name} holds no sound")
    raw = raw[: len(raw) - len(raw) % (width * channels)]
    if width == 1:
        values = np.frombuffer(raw, np.uint8).astype(np.float64) / 128 - 1
    elif width == 3:
        parts = np.frombuffer(raw, np.uint8).reshape(-1, 3).astype(np.int32)
        values = ((parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24) >> 8) / float(1 << 23)
    else:
        values = np.frombuffer(raw, np.dtype(f"<i{width}")) / float(1 << (8 * width - 1))
    return values.reshape(-1, channels).mean(axis=1), rate


def resampled(values: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """At the rate everything here is heard at, 16 kHz."""
    if rate == _RATE:
        return values
    from math import gcd

    from scipy.signal import resample_poly

    common = gcd(rate, _RATE)
    return np.asarray(resample_poly(values, _RATE // common, rate // common))


def _moments(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return values.mean(axis=0), values.std(axis=0)


@lru_cache(1)
def _mel() -> Any:
    """Triangles on the mel scale, a row a band."""

    def mel(hertz: Any) -> Any:
        return 2595 * np.log10(1 + hertz / 700)

    edges = np.linspace(mel(20), mel(_RATE / 2), _BANDS + 2)
    places = mel(np.fft.rfftfreq(_FRAME, 1 / _RATE) + 1e-9)
    rising = (places - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - places) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))
