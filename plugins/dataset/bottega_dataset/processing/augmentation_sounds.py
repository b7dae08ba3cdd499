"""Augmentation of sounds; stretches of speech follow when the time changes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from bottega.hookspecs import hookimpl
from bottega_dataset.processing.processors import AUDIO, AUGMENTATION, Params, Processor
from bottega_dataset.processing.work import Work
from bottega_dataset.sample import Annotation
from bottega_dataset.types.times import END, START, milliseconds, written

if TYPE_CHECKING:
    from numpy.random import Generator

    from bottega_dataset.processing.audio import Sound


class SoundParams(Params):
    copies: int = Field(1, ge=1, le=20)
    """How many new sounds are made of each."""
    do_validation: bool = True
    """Whether samples that cannot be read are dropped; else they stay as they are."""


class SoundOperator(Processor):
    """Makes sounds of sounds; a subclass says how one is made."""

    templates, sample_types = (AUGMENTATION,), frozenset({AUDIO})
    params = SoundParams
    needs = ("numpy", "scipy")

    @abstractmethod
    def make(self, sound: Sound, draw: Generator, params: Any) -> tuple[Sound, str, Fraction]:
        """A new sound, how it was made, and how many times faster it runs."""

    def process(self, work: Work, params: SoundParams) -> None:
        from bottega_dataset.processing import audio

        items = work.original_items
        for item, sound in work.read(audio.decode, items):
            for copy in range(params.copies):
                made, how, faster = self.make(sound, work.random(item, copy), params)
                annotations = _followed(item.record.annotations, faster, made.seconds)
                work.add(item, how, content=audio.encode(made), annotations=annotations, suffix=".wav")
        for item in items:
            if item in work.unreadable and params.do_validation:
                work.drop(item, f"cannot be read: {work.unreadable[item]}")


def _followed(annotations: Sequence[Annotation], faster: Fraction, seconds: float) -> list[Annotation]:
    """Stretches at the times they have now; one that shrinks to nothing is left out."""
    last, found = int(seconds * 1000), []
    for one in annotations:
        prop = one.property or {}
        if START in prop and END in prop:
            start, end = (min(last, round(milliseconds(prop[name]) / faster)) for name in (START, END))
            if end <= start:
                continue
            one = replace(one, property={**prop, START: written(start), END: written(end)})
        found.append(one)
    return found


class SoundNoiseParams(SoundParams):
    snr_db: float = Field(20, ge=-10, le=80)
    """How much stronger the sound is than the noise."""


class SoundNoise(SoundOperator):
    id, name, description = "SoundNoise", "Noise", "Adds white noise to sounds, at a given distance."
    params = SoundNoiseParams

    def make(self, sound: Sound, draw: Generator, params: SoundNoiseParams) -> tuple[Sound, str, Fraction]:
        import numpy as np

        level = float(np.sqrt(np.mean(sound.samples**2))) * 10 ** (-params.snr_db / 20)
        noise = draw.normal(0, max(level, 1e-6), sound.samples.shape)
        return replace(sound, samples=sound.samples + noise), f"noise added, {params.snr_db:g} dB below", Fraction(1)


class GainParams(SoundParams):
    gain_min_db: float = Field(-12, ge=-60, le=60)
    gain_max_db: float = Field(6, ge=-60, le=60)

    @model_validator(mode="after")
    def _ordered(self) -> GainParams:
        if self.gain_min_db > self.gain_max_db:
            raise ValueError("gain_min_db must not be above gain_max_db")
        return self


class SoundGain(SoundOperator):
    id, name, description = "SoundGain", "Gain", "Makes sounds quieter or louder; never so loud that they clip."
    params = GainParams

    def make(self, sound: Sound, draw: Generator, params: GainParams) -> tuple[Sound, str, Fraction]:
        from bottega_dataset.processing import audio

        gain = min(float(draw.uniform(params.gain_min_db, params.gain_max_db)), -audio.peak_db(sound))
        return replace(sound, samples=sound.samples * 10 ** (gain / 20)), f"gain of {gain:.1f} dB", Fraction(1)


class SpeedParams(SoundParams):
    speed_min: float = Field(0.9, ge=0.25, le=4)
    speed_max: float = Field(1.1, ge=0.25, le=4)

    @model_validator(mode="after")
    def _ordered(self) -> SpeedParams:
        if self.speed_min > self.speed_max:
            raise ValueError("speed_min must not be above speed_max")
        return self


class SoundSpeed(SoundOperator):
    id, name, description = "SoundSpeed", "Speed", "Plays sounds slower or faster (and lower or higher)."
    params = SpeedParams

    def make(self, sound: Sound, draw: Generator, params: SpeedParams) -> tuple[Sound, str, Fraction]:
        from scipy.signal import resample_poly

        faster = Fraction(float(draw.uniform(params.speed_min, params.speed_max))).limit_denominator(40)
        made = resample_poly(sound.samples, faster.denominator, faster.numerator, axis=0)
        return replace(sound, samples=made), f"{float(faster):.3f} times as fast", faster


@hookimpl
def bottega_dataset_processors() -> list[Processor]:
    return [SoundNoise(), SoundGain(), SoundSpeed()]
