"""Pictures of the vibration signals that the reference models are trained on."""

import numpy as np

from xedge.results.canvas import ReportFigure, styled
from xedge.scenario import vibration


def windows(seed: int) -> ReportFigure:
    """Return one healthy and one damaged window: the signal over time (m/s²) and its spectrum (dB)."""
    signals, labels = vibration.windows(64, seed)
    time_ms = np.arange(vibration.WINDOW_SAMPLES) / vibration.SAMPLE_RATE_HZ * 1e3
    frequency_khz = np.fft.rfftfreq(vibration.WINDOW_SAMPLES, 1e3 / vibration.SAMPLE_RATE_HZ)
    taper = np.hanning(vibration.WINDOW_SAMPLES)
    with styled():
        report = ReportFigure(figsize=(9, 3.9))
        axes = report.subplots(2, 2, sharex="col", sharey="col")
        for (over_time, over_frequency), label, name in zip(axes, (0, 1), ("healthy", "damaged"), strict=True):
            signal = signals[int(np.argmax(labels == label))]
            colour = "C0" if label == 0 else "C1"
            over_time.plot(time_ms, signal, color=colour, linewidth=0.7)
            level_db = 20 * np.log10(np.abs(np.fft.rfft(signal * taper)) / taper.sum() + 1e-6)
            over_frequency.plot(frequency_khz, level_db, color=colour, linewidth=0.9)
            over_time.set(ylabel=f"{name}\nm/s²")
            over_frequency.set(ylabel="dB")
        axes[1, 0].set_xlabel("time, ms")
        axes[1, 1].set_xlabel("frequency, kHz")
        report.alt = (
            "Vibration of a healthy and a damaged bearing over 85 ms, and their spectra up to 6 kHz. "
            f"Over 64 windows the standard deviations are {signals[labels == 0].std():.2f} (healthy) and "
            f"{signals[labels == 1].std():.2f} m/s² (damaged)."
        )
    return report
