"""The signal generator and its features."""

from __future__ import annotations

import numpy as np
import pytest

from xedge.core.exceptions import ConfigurationError
from xedge.scenario import vibration
from xedge.scenario.vibration import FEATURE_NAMES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, fault_frequencies_hz

TIME_S = np.arange(WINDOW_SAMPLES) / SAMPLE_RATE_HZ
BIN_HZ = SAMPLE_RATE_HZ / WINDOW_SAMPLES


def named(signal: np.ndarray) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, vibration.features(signal[None])[0].tolist(), strict=True))


@pytest.mark.parametrize(("name", "multiple"), [("bpfo", 3.5848), ("bpfi", 5.4152), ("bsf", 2.3567), ("ftf", 0.3983)])
@pytest.mark.parametrize("rotation_hz", [1.0, 29.95])
def test_fault_frequencies_of_skf_6205(name: str, multiple: float, rotation_hz: float) -> None:
    assert getattr(fault_frequencies_hz(rotation_hz), name) == pytest.approx(multiple * rotation_hz, rel=2e-4)


@pytest.mark.parametrize("rotation_hz", [0.0, -1.0, float("nan"), float("inf")])
def test_fault_frequencies_refuses_a_shaft_that_does_not_turn(rotation_hz: float) -> None:
    with pytest.raises(ConfigurationError, match="rotation_hz"):
        fault_frequencies_hz(rotation_hz)


@pytest.mark.parametrize("n", [0, 1, 1500])
def test_windows_shapes_and_types(n: int) -> None:
    signals, labels = vibration.windows(n, 3)
    assert (signals.shape, signals.dtype) == ((n, 1024), np.float32)
    assert (labels.shape, labels.dtype) == ((n,), np.int8)
    assert np.isfinite(signals).all()
    assert set(labels.tolist()) <= {0, 1}


def test_windows_same_seed_same_windows_other_seed_other_windows() -> None:
    first, second, other = (vibration.windows(40, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


def test_windows_all_differ_across_chunks() -> None:
    signals, _ = vibration.windows(1200, 1)
    assert len(np.unique(signals[:, :8], axis=0)) == 1200


def test_windows_half_are_damaged_and_damage_repeats() -> None:
    signals, labels = vibration.windows(3000, 8)
    assert 0.45 < labels.mean() < 0.55
    repetition = vibration.features(signals)[:, FEATURE_NAMES.index("envelope_repetition")]
    healthy, damaged = np.median(repetition[labels == 0]), np.median(repetition[labels == 1])
    assert damaged > 2 * healthy


def test_windows_level_alone_tells_nothing() -> None:
    signals, labels = vibration.windows(3000, 8)
    level = np.log(signals.std(axis=1))
    gap = abs(level[labels == 1].mean() - level[labels == 0].mean())
    assert gap < 0.7 * level.std()


def test_outer_race_impulses_come_at_bpfo() -> None:
    rng = np.random.default_rng(0)
    rotation_hz = np.full(600, 30.0)
    times, heights = vibration._damage(rotation_hz, rng)
    found = fault_frequencies_hz(30.0)
    seen = [SAMPLE_RATE_HZ / np.median(np.diff(np.sort(t[h > 0]))) for t, h in zip(times, heights, strict=True)]
    expected = np.array([found.bpfo, found.bpfi, 2 * found.bsf])
    nearest = np.abs(np.subtract.outer(np.array(seen), expected) / expected)
    assert nearest.min(axis=1).max() < 0.05
    assert np.bincount(nearest.argmin(axis=1), minlength=3).min() > 150


def test_resonance_rings_exactly_as_the_formula_also_between_samples() -> None:
    pole = np.array([2 * np.pi * 3000 / SAMPLE_RATE_HZ * (-0.05 + 1j)])
    drive = np.zeros((100, 1), np.complex128)
    vibration._add_impulses(drive, pole, np.array([[10.25]]), np.array([[2.0]]))
    since = np.arange(100) - 10.25
    expected = np.where(since >= 0, 2.0 * np.exp(pole * np.maximum(since, 0)).imag, 0.0)
    np.testing.assert_allclose(vibration._ring(drive, pole)[:, 0], expected, atol=1e-12)


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (1, -1)])
def test_windows_refuses_negative_numbers(n: int, seed: int) -> None:
    with pytest.raises(ConfigurationError, match=f"n={n}, seed={seed}"):
        vibration.windows(n, seed)


def test_features_has_32_different_names() -> None:
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == 32


def test_features_of_a_sine() -> None:
    found = named(3.0 * np.sin(2 * np.pi * 90 * BIN_HZ * TIME_S))  # 1054.7 Hz, 90 whole periods
    assert found["log_rms"] == pytest.approx(np.log(3 / np.sqrt(2)), abs=1e-6)
    assert found["log_peak"] == pytest.approx(np.log(3), abs=2e-3)
    assert found["log_kurtosis"] == pytest.approx(np.log(1.5), abs=1e-6)
    assert found["skewness"] == pytest.approx(0.0, abs=1e-6)
    assert found["crest_factor"] == pytest.approx(np.sqrt(2), rel=2e-3)
    assert found["shape_factor"] == pytest.approx(np.pi / (2 * np.sqrt(2)), rel=2e-3)
    assert found["impulse_factor"] == pytest.approx(np.pi / 2, rel=2e-3)
    assert found["zero_crossing_rate"] == pytest.approx(180 / 1023, abs=2e-3)
    assert found["log_slope_rms"] == pytest.approx(np.log(3 / np.sqrt(2) * 2 * np.sin(np.pi * 90 / 1024)), abs=2e-3)
    assert found["log_band_750_1500_hz"] == pytest.approx(0.0, abs=1e-4)
    assert found["log_band_3000_3750_hz"] < -15
    assert found["spectral_centroid_khz"] == pytest.approx(90 * BIN_HZ / 1000, abs=1e-3)
    assert found["spectral_spread_khz"] < 0.02


def test_features_of_white_noise() -> None:
    found = named(np.random.default_rng(0).standard_normal(WINDOW_SAMPLES))
    assert found["log_kurtosis"] == pytest.approx(np.log(3), abs=0.15)
    assert found["spectral_centroid_khz"] == pytest.approx(3.0, abs=0.2)
    assert found["spectral_entropy"] > 0.9
    assert found["envelope_repetition"] < 0.2


def test_features_find_the_line_of_a_modulated_tone() -> None:
    found = named((1 + np.cos(2 * np.pi * 125 * TIME_S)) * np.sin(2 * np.pi * 3000 * TIME_S))
    assert found["envelope_line_khz"] == pytest.approx(0.125, abs=0.006)
    lines = {name: value for name, value in found.items() if name.startswith("log_envelope_line")}
    assert max(lines, key=lambda name: lines[name]) == "log_envelope_line_110_150_hz"
    assert found["envelope_repetition"] > 0.8


def test_features_only_the_levels_know_the_gain() -> None:
    signals, _ = vibration.windows(20, 2)
    once, louder = vibration.features(signals), vibration.features(signals * np.float32(8))
    levels = [FEATURE_NAMES.index(name) for name in ("log_rms", "log_peak", "log_slope_rms")]
    np.testing.assert_allclose(louder[:, levels] - once[:, levels], np.log(8), atol=1e-5)
    others = np.delete(np.arange(32), levels)
    np.testing.assert_allclose(louder[:, others], once[:, others], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_of_a_dead_sensor_are_finite(value: float) -> None:
    assert np.isfinite(vibration.features(np.full((2, WINDOW_SAMPLES), value))).all()


@pytest.mark.parametrize("shape", [(1024,), (2, 1000), (2, 1, 1024)])
def test_features_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="1024"):
        vibration.features(np.zeros(shape))


def test_features_one_row_does_not_depend_on_the_others() -> None:
    signals, _ = vibration.windows(1030, 4)
    together = vibration.features(signals)
    np.testing.assert_allclose(vibration.features(signals[-1:]), together[-1:], rtol=1e-6, atol=1e-6)
