"""Numbers as people read them: counts, shares, latencies with their intervals."""

import math

from xedge.results.statistics import Estimate


def level_name(p: float) -> str:
    """Return "p99" for 0.99 and "p99.9" for 0.999."""
    return f"p{100 * p:.10g}"


def count(n: int) -> str:
    """Return 20000 as "20 000", with a space that does not break."""
    return f"{n:,}".replace(",", "\u202f")


def percent(share: float, digits: int = 0) -> str:
    """Return 0.123 as "12 %"."""
    return f"{100 * share:.{digits}f} %"


def share(value: float, least: int = 0) -> str:
    """Return 0.9996 as "99.96": with the digits it takes not to be rounded to none, to all, or over 99 %.

    Above 95 % there is one digit at least: a deadline's 99 % is decided there. `least` asks for more.
    """
    if round(value, 9) in (0, 1):
        return f"{100 * value:.0f}"
    texts = [f"{100 * value:.{digits}f}" for digits in range(max(least, value > 0.95), 4)]

    def is_fair(text: str) -> bool:
        return 0 < float(text) < 100 and (float(text) >= 99) == (value >= 0.99)

    return next(filter(is_fair, texts), texts[-1])


def percentage(percent: Estimate) -> str:
    """Return an estimate in percent as "99.96 (99.70–99.99) %"."""
    value = "" if percent.value is None else share(percent.value / 100)
    if percent.low is None or percent.high is None:
        return f"{value} %"
    ends = (percent.low / 100, percent.high / 100)
    digits = max(len(share(end).partition(".")[2]) for end in ends)
    low, high = (share(end, digits) for end in ends)
    return f"{value} ({low}–{high}) %"


def accuracy(share: Estimate) -> str:
    """Return a share of right answers as "92.3 (91.0–93.5) %"."""
    value, low, high = ("" if end is None else f"{100 * end:.1f}" for end in (share.value, share.low, share.high))
    return f"{value} ({low}–{high}) %" if low and high else f"{value} %"


def points(difference: Estimate) -> str:
    """Return a difference of shares as "2.1 (1.4–2.8) percentage points"."""
    if difference.value is None or difference.low is None or difference.high is None:
        return "not known"
    value, low, high = (100 * end for end in (difference.value, difference.low, difference.high))
    places = min(decimals(value, (high - low) / 2), 2)
    return f"{value:.{places}f} ({interval(low, high, places)}) percentage points".replace("-", "−")


def interval(low: float, high: float, places: int) -> str:
    """Return "1.19–1.24", or "−0.1 to 0.2" where a dash would be taken for a minus."""
    ends = [f"{end:.{places}f}".replace("-", "−") for end in (low, high)]
    return ("–" if low >= 0 else " to ").join(ends)


def number(value: float, digits: int = 3) -> str:
    """Return a number with three significant digits and never an exponent: "0.171", "12.3", "1 320", "∞"."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return count(round(value)) if abs(value) >= 100 else f"{value:.{digits}g}"


def decimals(value: float, half: float | None) -> int:
    """Return how many decimals to print: two digits of the half-width, or four of the value; at most 3."""
    basis, digits = (half, 1) if half else (value, 3)
    return min(max(digits - math.floor(math.log10(abs(basis))), 0), 3) if basis else 3


def milliseconds(estimate: Estimate, timeout_s: float | None = None, unit: str = " ms") -> str:
    """Return "1.213 (1.192–1.234) ms", "> 5000 ms (timed out)" or "too few (n < 299)": as people read it."""
    if estimate.value is None:
        return f"too few (n < {estimate.needed})" if estimate.too_few else "not known"
    if math.isinf(estimate.value):
        return f"> {1000 * timeout_s:.0f}{unit} (timed out)" if timeout_s else "timed out"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{decimals(estimate.value, None)}f}{unit}".replace("-", "−")
    places = decimals(estimate.value, (estimate.high - estimate.low) / 2)
    value = f"{estimate.value:.{places}f}".replace("-", "−")
    return f"{value} ({interval(estimate.low, estimate.high, places)}){unit}"


def senders_share(estimate: Estimate) -> str:
    """Return " (at most 0.09 ms of it the sender's)" where a late sender's share is 1 % or more, else ""."""
    if estimate.value is None or not estimate.late >= 0.01 * abs(estimate.value):
        return ""
    return f" (at most {number(estimate.late, 2)} ms of it the sender's)"
