"""Noisy sounds of 3 to 8 tones, to be written down; the error rate counts edits per tone.

The waveforms are made at 16 kHz and turned into logarithms of 80 mel bands, 10 ms a frame, as
speech is: steady tones with overtones, an octave being five of them, and sweeps up and down.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np

from bench.train.task import Array, Arrays, Batch, Task, Totals, stream
from planck.models.wenet_encoder import MELS

RATE, HOP, WINDOW, POINTS = 16000, 160, 400, 512
STEADY, SWEEPS = 16, 4
LABELS = STEADY + 2 * SWEEPS  # labels are 1 to 24; 0 is the blank of CTC
BLANK = 0
_LOWEST_HZ, _PER_OCTAVE = 300.0, 5
_TONES = (3, 8)
_FRAMES, _GAP = (12, 26), (3, 10)  # of a tone, and of the silence before it
_NOISE = (-3.0, 1.2)  # deviation of the noise, natural logarithm, from quiet to loud


def make(split: int, number: int, samples: int) -> Batch:
    """Utterances padded with 0 to the longest of them, with their lengths in frames."""
    random = stream(split, number, 11)
    made = [_utterance(random) for _ in range(samples)]
    lengths = np.array([len(frames) for frames, _ in made], dtype=np.int32)
    speech = np.zeros((samples, lengths.max(), MELS), dtype=np.float32)
    for row, (frames, _) in zip(speech, made, strict=True):
        row[: len(frames)] = frames
    feeds = {"speech": speech, "speech_lengths": lengths}
    return Batch(feeds, {"labels": [labels for _, labels in made]})


def _utterance(random: np.random.Generator) -> tuple[Array, tuple[int, ...]]:
    """Frames f32 [T, 80] and the tones in them."""
    count = int(random.integers(*_TONES, endpoint=True))
    labels = tuple(map(int, random.integers(1, LABELS, size=count, endpoint=True)))
    parts = []
    for label in labels:
        gap, length = int(random.integers(*_GAP)), int(random.integers(*_FRAMES))
        parts += [np.zeros(gap * HOP), _tone(random, label, length * HOP)]
    wave = np.concatenate([*parts, np.zeros(2 * WINDOW)])
    wave += np.exp(random.uniform(*_NOISE)) * random.standard_normal(len(wave))
    return filter_bank(wave), labels


def _tone(random: np.random.Generator, label: int, length: int) -> Array:
    """A tone with three overtones of random strength, faded in and out: f64 [length]."""
    number = label - 1
    if number < STEADY:
        octaves = np.full(length, number / _PER_OCTAVE)
    else:
        sweep = number - STEADY
        octaves = 0.6 * (sweep % SWEEPS) + np.linspace(0.0, 1.2, length)
        octaves = octaves[::-1] if sweep >= SWEEPS else octaves
    octaves = octaves + random.normal(0.0, 0.02)
    phase = 2 * np.pi * np.cumsum(_LOWEST_HZ * 2**octaves) / RATE
    strengths = [1.0, *random.uniform(0.0, 0.6, size=3)]
    wave = sum(a * np.sin((k + 1) * phase) for k, a in enumerate(strengths))
    fade = np.minimum(1.0, np.minimum(np.arange(length), np.arange(length)[::-1]) / (2 * HOP))
    wave = random.uniform(0.3, 1.0) * fade * wave
    return np.asarray(wave)


def filter_bank(wave: Array) -> Array:
    """Logarithms of mel band energies f32 [T, 80] of a waveform f64 [samples]."""
    windows = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), POINTS)) ** 2
    return np.log(power @ _mel_weights() + 1e-3).astype(np.float32)


@lru_cache
def _mel_weights() -> Array:
    """Triangles f64 [bins, 80], equally wide on the mel scale 2595 log10(1 + f / 700)."""
    lowest, highest = 2595 * np.log10(1 + np.array([20.0, RATE / 2]) / 700)
    edges = np.linspace(float(lowest), float(highest), MELS + 2)
    edges = 700 * (10 ** (edges / 2595) - 1)
    hertz = np.arange(POINTS // 2 + 1)[:, None] * RATE / POINTS
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    triangles: Array = np.maximum(np.minimum(rising, falling), 0.0)
    return triangles


def decide(outputs: Arrays, feeds: Arrays) -> list[Hashable]:
    """The best label of each frame, repetitions and blanks taken out: greedy CTC decoding."""
    best = outputs["ctc_log_probs"].argmax(axis=2)
    return [_collapsed(row[:n]) for row, n in zip(best, outputs["encoder_out_lens"], strict=True)]


def _collapsed(row: Array) -> tuple[int, ...]:
    changed = np.append(True, row[1:] != row[:-1])[: len(row)]
    return tuple(map(int, row[changed & (row != BLANK)]))


def score(outputs: Arrays, batch: Batch) -> Totals:
    """Edits per label, and the share of utterances with an edit."""
    answers = batch.answers["labels"]
    edits = [
        edit_distance(got, expected)
        for got, expected in zip(decide(outputs, batch.feeds), answers, strict=True)
    ]
    return {
        "character error rate": (float(sum(edits)), sum(map(len, answers))),
        "utterance error rate": (float(sum(n > 0 for n in edits)), len(edits)),
    }


def edit_distance(got: Hashable, expected: Sequence[int]) -> int:
    """Insertions, deletions and substitutions that turn one sequence into the other.

    >>> edit_distance((1, 2, 4), (1, 3, 4, 5))
    2
    """
    assert isinstance(got, tuple)
    costs = list(range(len(expected) + 1))
    for i, label in enumerate(got, start=1):
        diagonal, costs[0] = costs[0], i
        for j, other in enumerate(expected, start=1):
            replaced = diagonal + (label != other)
            diagonal = costs[j]
            costs[j] = min(replaced, costs[j] + 1, costs[j - 1] + 1)
    return costs[-1]


TASK = Task(model="wenet_encoder", samples=256, batch=32, make=make, decide=decide, score=score)
