"""Accelerometer windows of a rolling bearing, healthy or damaged, and 32 features of a window.

The signal model is the one of Randall & Antoni (2011), "Rolling element bearing diagnostics: a tutorial", Mechanical
Systems and Signal Processing 25(2), doi:10.1016/j.ymssp.2010.07.017: each time a rolling element meets the damage an
impulse excites a structural resonance that rings and decays; the impulses come at a frequency given by the bearing's
geometry, with 1 to 2 % random slip, stronger where the load is.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xedge.core.exceptions import ConfigurationError

SAMPLE_RATE_HZ = 12_000
WINDOW_SAMPLES = 1024

Array = NDArray[Any]

_LEAD_SAMPLES = 256  # simulated before the window opens, so that earlier impulses still ring in it
_CHUNK = 1024  # rows worked on at once: bounds the memory, not the result
_BAND_EDGES_HZ = tuple(range(0, 6001, 750))
_ENVELOPE_EDGES_HZ = (20, 50, 80, 110, 150, 210, 420)
_ENVELOPE_FROM_HZ = 1500  # above the shaft's harmonics, where structures ring

FEATURE_NAMES: tuple[str, ...] = (
    *("log_rms", "log_peak", "log_kurtosis", "skewness", "crest_factor", "shape_factor", "impulse_factor"),
    *("margin_factor", "zero_crossing_rate", "log_slope_rms"),
    *(f"log_band_{low}_{high}_hz" for low, high in itertools.pairwise(_BAND_EDGES_HZ)),
    *("spectral_centroid_khz", "spectral_spread_khz", "spectral_entropy"),
    *("log_envelope_kurtosis", "envelope_crest_factor", "envelope_variation"),
    *(f"log_envelope_line_{low}_{high}_hz" for low, high in itertools.pairwise(_ENVELOPE_EDGES_HZ)),
    *("envelope_line_khz", "envelope_repetition"),
)


class FaultFrequencies(NamedTuple):
    """How often damage is met, in Hz: on the outer race, the inner race, a ball (its spin), the cage."""

    bpfo: float
    bpfi: float
    bsf: float
    ftf: float


def fault_frequencies_hz(rotation_hz: float) -> FaultFrequencies:
    """Return the fault frequencies of an SKF 6205 whose shaft turns at `rotation_hz`, its outer race at rest.

    With n balls of diameter d on pitch diameter D, r = d / D and shaft frequency f (Randall & Antoni 2011, equations
    1 to 4): BPFO = f n (1 - r) / 2, BPFI = f n (1 + r) / 2, FTF = f (1 - r) / 2, BSF = f D (1 - r^2) / (2 d).
    A damaged ball meets a race twice a turn, so it is heard at 2 BSF.

    Raises:
        ConfigurationError: `rotation_hz` is not a positive number.
    """
    if not 0 < rotation_hz < math.inf:
        raise ConfigurationError(f"rotation_hz is {rotation_hz!r}: give the shaft's frequency, above 0 Hz")
    balls, ball_mm, pitch_mm = 9, 7.94, 39.04
    ratio = ball_mm / pitch_mm
    return FaultFrequencies(
        bpfo=rotation_hz * balls * (1 - ratio) / 2,
        bpfi=rotation_hz * balls * (1 + ratio) / 2,
        bsf=rotation_hz * pitch_mm / (2 * ball_mm) * (1 - ratio**2),
        ftf=rotation_hz * (1 - ratio) / 2,
    )


def windows(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return `n` accelerometer windows, shape (n, 1024) at 12 kHz in m/s², and their labels, shape (n,).

    Label 1 is a damaged bearing (outer race, inner race or ball, equally often), 0 a healthy one; about half are
    damaged. Speed (20 to 35 Hz), load, severity, resonance, mounting gain and background noise are drawn anew for every
    window, and every machine knocks now and then, so that no single number tells the two apart and the weakest damage
    drowns. The same `n` and `seed` give the same windows.

    Raises:
        ConfigurationError: `n` or `seed` is negative.
    """
    if n < 0 or seed < 0:
        raise ConfigurationError(f"windows(n={n}, seed={seed}): both must be 0 or more")
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.5).astype(np.int8)
    signals = np.empty((n, WINDOW_SAMPLES), np.float32)
    for start in range(0, n, _CHUNK):
        signals[start : start + _CHUNK] = _simulate(labels[start : start + _CHUNK].astype(bool), rng)
    return signals, labels


def features(signals: Array) -> NDArray[np.float32]:
    """Return the 32 features named in `FEATURE_NAMES` of each window, shape (n, 32).

    `signals` has shape (n, 1024), in m/s² at 12 kHz. "log" is the natural logarithm. Ten features describe the
    waveform, eleven its spectrum (bands in parts of the total power) and eleven the squared envelope above 1.5 kHz and
    its spectrum, where damage shows as lines (Randall & Antoni 2011, section 5).

    Raises:
        ConfigurationError: `signals` does not have shape (n, 1024).
    """
    signals = np.asarray(signals)
    if signals.ndim != 2 or signals.shape[1] != WINDOW_SAMPLES:
        raise ConfigurationError(f"signals have shape {signals.shape}: give windows of shape (n, {WINDOW_SAMPLES})")
    table = np.empty((len(signals), len(FEATURE_NAMES)), np.float32)
    for start in range(0, len(signals), _CHUNK):
        chunk = signals[start : start + _CHUNK].astype(np.float64)
        columns = [*_waveform_features(chunk), *_spectral_features(chunk), *_envelope_features(chunk)]
        table[start : start + _CHUNK] = np.stack(columns, axis=1)
    return table


def _simulate(faulty: Array, rng: np.random.Generator) -> Array:
    n = len(faulty)
    rotation_hz = rng.uniform(20, 35, n)
    resonance_rad = 2 * np.pi * rng.uniform(2000, 4500, n)
    pole = resonance_rad * (-rng.uniform(0.02, 0.08, n) + 1j) / SAMPLE_RATE_HZ  # per sample

    drive = np.zeros((_LEAD_SAMPLES + WINDOW_SAMPLES, n), np.complex128)  # time runs down the rows
    background = rng.uniform(0.3, 1.2, n) * np.sqrt(2 * (1 - np.exp(2 * pole.real)))
    drive += background * rng.standard_normal(drive.shape)
    _add_impulses(drive, pole, *_knocks(n, rng))
    times, heights = _damage(rotation_hz, rng)
    _add_impulses(drive, pole, times, heights * faulty[:, None])

    signal = _ring(drive, pole)[_LEAD_SAMPLES:].T + rng.standard_normal((n, WINDOW_SAMPLES))
    signal += _shaft(rotation_hz, rng)
    return signal * np.exp(rng.uniform(-1.5, 1.5, n))[:, None]


def _shaft(rotation_hz: Array, rng: np.random.Generator) -> Array:
    """Return six harmonics of the rotation: unbalance, misalignment, looseness."""
    angle = 2 * np.pi * rotation_hz[:, None] * np.arange(WINDOW_SAMPLES) / SAMPLE_RATE_HZ
    total, column = np.zeros(angle.shape), (len(angle), 1)
    for harmonic in range(1, 7):
        height = rng.lognormal(-0.3 - 0.4 * harmonic, 0.6, column)
        total += height * np.sin(harmonic * angle + rng.uniform(0, 2 * np.pi, column))
    return total


def _knocks(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return times (samples) and heights of up to six knocks a window, none of them the bearing's."""
    times = rng.uniform(0, _LEAD_SAMPLES + WINDOW_SAMPLES - 1, (n, 6))
    present = np.arange(6) < rng.poisson(0.7, (n, 1))
    return times, present * rng.lognormal(0.6, 0.6, (n, 6))


def _damage(rotation_hz: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return times (samples) and heights of the impulses of one damaged part in each window."""
    n = len(rotation_hz)
    unit = fault_frequencies_hz(1.0)
    kind = rng.integers(0, 3, n)  # outer race, inner race, ball
    spacing = SAMPLE_RATE_HZ / (rotation_hz * np.array([unit.bpfo, unit.bpfi, 2 * unit.bsf])[kind])
    span = _LEAD_SAMPLES + WINDOW_SAMPLES
    count = math.ceil(span / spacing.min() * 1.1) + 2 if n else 0
    slip = 1 + 0.015 * rng.standard_normal((n, count))
    times = spacing[:, None] * (rng.random((n, 1)) - 1 + np.cumsum(slip, axis=1))
    # The load: the same all the time on the outer race, once a turn of the shaft on the inner, of the cage on a ball.
    load_hz = rotation_hz * np.array([0.0, 1.0, unit.ftf])[kind]
    phase = 2 * np.pi * (load_hz[:, None] * times / SAMPLE_RATE_HZ + rng.random((n, 1)))
    load = np.where(kind[:, None] == 0, 1.0, 1 + 0.7 * np.cos(phase))
    severity = np.exp(rng.uniform(math.log(2.2), math.log(15.0), (n, 1)))
    heights = severity * load * rng.lognormal(0.0, 0.2, (n, count))
    inside = (times >= 0) & (times < span - 1)
    return np.where(inside, times, 0.0), np.where(inside, heights, 0.0)


def _add_impulses(drive: Array, pole: Array, times: Array, heights: Array) -> None:
    """Add impulses between samples: each enters at the next sample, decayed and turned by the delay."""
    entry = np.ceil(times)
    decayed = heights * np.exp(pole[:, None] * (entry - times))
    columns = np.broadcast_to(np.arange(len(pole))[:, None], times.shape)
    np.add.at(drive, (entry.astype(np.intp), columns), decayed)


def _ring(drive: Array, pole: Array) -> Array:
    """Return the resonance's answer: y[t] = y[t-1] exp(pole) + drive[t], exact for a damped oscillation."""
    step = np.exp(pole)
    for now in range(1, len(drive)):
        drive[now] += drive[now - 1] * step
    return drive.imag


def _log(values: Array) -> Array:
    return np.log(np.maximum(values, 1e-12))


def _ratio(above: Array, below: Array) -> Array:
    return above / np.maximum(below, 1e-12)


def _waveform_features(signals: Array) -> list[Array]:
    centred = signals - signals.mean(axis=1, keepdims=True)
    magnitude = np.abs(signals)
    rms = np.sqrt(np.mean(signals**2, axis=1))
    peak, mean = magnitude.max(axis=1), magnitude.mean(axis=1)
    deviation = centred.std(axis=1)
    return [
        _log(rms),
        _log(peak),
        _log(_ratio(np.mean(centred**4, axis=1), deviation**4)),
        _ratio(np.mean(centred**3, axis=1), deviation**3),
        _ratio(peak, rms),
        _ratio(rms, mean),
        _ratio(peak, mean),
        _ratio(peak, np.sqrt(magnitude).mean(axis=1) ** 2),
        np.diff(np.signbit(centred), axis=1).mean(axis=1),
        _log(np.sqrt(np.mean(np.diff(signals, axis=1) ** 2, axis=1))),
    ]


def _spectral_features(signals: Array) -> list[Array]:
    khz = np.fft.rfftfreq(WINDOW_SAMPLES, 1 / SAMPLE_RATE_HZ) / 1000
    power = np.abs(np.fft.rfft(signals * np.hanning(WINDOW_SAMPLES), axis=1)) ** 2
    share = _ratio(power, power.sum(axis=1, keepdims=True))
    band = np.minimum(np.searchsorted(_BAND_EDGES_HZ, khz * 1000, side="right"), len(_BAND_EDGES_HZ) - 1)
    bands = [_log(share[:, band == number].sum(axis=1)) for number in range(1, len(_BAND_EDGES_HZ))]
    centroid = share @ khz
    spread = np.sqrt(np.maximum(share @ khz**2 - centroid**2, 0.0))
    entropy = -(share * _log(share)).sum(axis=1) / math.log(len(khz))
    return [*bands, centroid, spread, entropy]


def _envelope_features(signals: Array) -> list[Array]:
    hz = np.fft.fftfreq(WINDOW_SAMPLES, 1 / SAMPLE_RATE_HZ)
    analytic = np.fft.ifft(np.where(hz >= _ENVELOPE_FROM_HZ, np.fft.fft(signals, axis=1), 0.0), axis=1)
    squared = analytic.real**2 + analytic.imag**2
    squared = _ratio(squared, squared.mean(axis=1, keepdims=True))
    centred = squared - squared.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1)
    hz = np.fft.rfftfreq(4 * WINDOW_SAMPLES, 1 / SAMPLE_RATE_HZ)
    lines = np.abs(np.fft.rfft(centred * np.hanning(WINDOW_SAMPLES), 4 * WINDOW_SAMPLES, axis=1))
    floor = np.median(lines[:, (hz >= 20) & (hz < 1000)], axis=1)
    heights = [
        _log(_ratio(lines[:, (hz >= low) & (hz < high)].max(axis=1), floor))
        for low, high in itertools.pairwise(_ENVELOPE_EDGES_HZ)
    ]
    searched = (hz >= 50) & (hz < 420)
    strongest = hz[searched][lines[:, searched].argmax(axis=1)] / 1000
    log_kurtosis = _log(_ratio(np.mean(centred**4, axis=1), deviation**4))
    return [log_kurtosis, squared.max(axis=1) ** 0.5, deviation, *heights, strongest, _repetition(centred)]


def _repetition(centred: Array) -> Array:
    """Return the largest autocorrelation of the squared envelope at lags of 4.5 to 16 ms (220 to 62 Hz)."""
    power = np.abs(np.fft.rfft(centred, 2 * WINDOW_SAMPLES, axis=1)) ** 2
    correlation = np.fft.irfft(power, axis=1)
    lags = slice(round(0.0045 * SAMPLE_RATE_HZ), round(0.016 * SAMPLE_RATE_HZ))
    return _ratio(correlation[:, lags].max(axis=1), correlation[:, 0])
