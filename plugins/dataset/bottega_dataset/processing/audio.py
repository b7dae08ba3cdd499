"""Sounds, in the worker: reading WAV files safely, measuring them (ITU-R BS.1770-4 for loudness)."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.processing.work import Unreadable

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True, slots=True)
class Sound:
    """`samples` (n, channels), -1 to 1, at `rate` Hz. `dtype` is how the file held them."""

    samples: NDArray[np.float64]
    rate: int
    dtype: np.dtype[np.generic]

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @property
    def mono(self) -> NDArray[np.float64]:
        mixed: NDArray[np.float64] = self.samples.mean(1)
        return mixed


def decode(content: bytes) -> Sound:
    """Raises Unreadable for what is no WAV file, is cut off, or whose header does not say what is there."""
    from scipy.io import wavfile

    _check_header(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks it does not know
            rate, data = wavfile.read(io.BytesIO(content))
    except Exception as e:  # a hostile file makes the library raise anything
        raise Unreadable(f"the sound cannot be decoded ({type(e).__name__}: {str(e)[:100]})") from e
    if rate <= 0 or data.size == 0:
        raise Unreadable("the sound is empty")
    if data.dtype == np.uint8:
        values = (data.astype(np.float64) - 128) / 128
    elif np.issubdtype(data.dtype, np.integer):
        values = data.astype(np.float64) / -float(np.iinfo(data.dtype).min)
    else:
        values = data.astype(np.float64)
    if not np.isfinite(values).all():
        raise Unreadable("the sound holds values that are no numbers")
    return Sound(values.reshape(len(values), -1), int(rate), data.dtype)


def encode(sound: Sound) -> bytes:
    """A WAV file, as the sound was held before."""
    from scipy.io import wavfile

    clipped = np.clip(sound.samples, -1, 1)
    if sound.dtype == np.uint8:
        data = np.round(clipped * 127 + 128).astype(np.uint8)
    elif np.issubdtype(sound.dtype, np.integer):
        limits = np.iinfo(sound.dtype)  # type: ignore[type-var]
        data = np.clip(np.round(clipped * -float(limits.min)), limits.min, limits.max).astype(sound.dtype)
    else:
        data = clipped.astype(np.float32)
    out = io.BytesIO()
    wavfile.write(out, sound.rate, data if data.shape[1] > 1 else data[:, 0])
    return out.getvalue()


def rms_db(sound: Sound) -> float:
    """Root mean square in dB below full scale; -120 for silence."""
    return _db(float(np.sqrt(np.mean(sound.samples**2))))


def peak_db(sound: Sound) -> float:
    return _db(float(np.abs(sound.samples).max()))


def silent_part(sound: Sound, below_db: float = -50.0) -> float:
    """The part of the time, 0 to 1, in which 20 ms have less than `below_db`."""
    size = max(1, sound.rate // 50)
    whole = len(sound.samples) // size
    if not whole:
        return float(rms_db(sound) < below_db)
    blocks = sound.mono[: whole * size].reshape(whole, size)
    return float(np.mean(np.sqrt((blocks**2).mean(1)) < 10 ** (below_db / 20)))


def clipped_part(sound: Sound) -> float:
    """The part of the samples, 0 to 1, at full scale."""
    return float(np.mean(np.abs(sound.samples) >= 0.999))


def loudness(sound: Sound) -> float:
    """Integrated loudness in LUFS, with both gates; a sound shorter than 0.4 s is one block. -70 for silence."""
    from scipy.signal import lfilter

    weighted = sound.samples
    for b, a in _k_weighting(sound.rate):
        weighted = lfilter(b, a, weighted, axis=0)
    size = int(0.4 * sound.rate)
    step = max(1, size // 4)
    starts = range(0, max(1, len(weighted) - size + 1), step)
    power = np.array([(weighted[at : at + size] ** 2).mean(0).sum() for at in starts])
    gated = power[power > _power(-70)]
    if not gated.size:
        return -70.0
    gated = gated[gated > gated.mean() * 0.1]
    return float(-0.691 + 10 * np.log10(gated.mean()))


def _k_weighting(rate: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The two filters of BS.1770 for any rate: a high shelf, and a high pass."""
    k = np.tan(np.pi * 1681.974450955533 / rate)
    high, band, q = (
        10 ** (3.999843853973347 / 20),
        10 ** (3.999843853973347 / 20 * 0.4996667741545416),
        0.7071752369554196,
    )
    below = 1 + k / q + k * k
    shelf = (
        np.array([high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k]) / below,
        np.array([1.0, 2 * (k * k - 1) / below, (1 - k / q + k * k) / below]),
    )
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    below = 1 + k / q + k * k
    high_pass = (np.array([1.0, -2.0, 1.0]), np.array([1.0, 2 * (k * k - 1) / below, (1 - k / q + k * k) / below]))
    return [shelf, high_pass]


def _power(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


def _db(value: float) -> float:
    return max(-120.0, 20 * float(np.log10(value))) if value > 0 else -120.0


def _check_header(content: bytes) -> None:
    """Raises Unreadable unless this is RIFF/WAVE with a sane format and as much data as it says."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise Unreadable("it is no WAV file")
    at, described = 12, False
    while at + 8 <= len(content):
        name, size = content[at : at + 4], struct.unpack_from("<I", content, at + 4)[0]
        if name == b"fmt " and size >= 16 and at + 24 <= len(content):
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", content, at + 8)
            if (
                kind not in (_PCM, _FLOAT, _EXTENSIBLE)
                or not 1 <= channels <= 64
                or not rate
                or bits not in (8, 16, 24, 32, 64)
            ):
                raise Unreadable(
                    f"its header says format {kind}, {channels} channels, {rate} Hz, {bits} bits; "
                    "uncompressed WAV with 1 to 64 channels is read"
                )
            described = True
        if name == b"data":
            there = len(content) - at - 8
            if not described:
                raise Unreadable("its header does not say what the data are")
            if size > there:
                raise Unreadable(f"its header says {size} bytes of sound; there are {there}")
            return
        at += 8 + size + size % 2
    raise Unreadable("it holds no sound")
