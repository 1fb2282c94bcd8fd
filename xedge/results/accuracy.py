"""How often answers were right: shares, ROC-AUC and paired differences with their intervals; pure.

An input that is asked again is answered again alike, so intervals count distinct inputs, not requests: what n requests
are worth is Kish's effective size, (Σm)²/Σm² over the times m that each input was asked (Survey Sampling, 1965).
"""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit, ndtri
from scipy.stats import rankdata

from xedge.results.statistics import CONFIDENCE, Estimate, FloatArray, binomial_interval

KEY = ["replication", "request"]
_Z = float(ndtri((1 + CONFIDENCE) / 2))


def judged(measured: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that were answered with a label and whose truth is known, with `right`; maybe none."""
    if "label" not in measured:
        return measured.iloc[:0].assign(right=False)
    rows = measured[(measured["status"] == "ok") & measured["label"].notna() & measured["answer"].notna()]
    return rows.assign(right=(rows["answer"] == rows["label"]).astype(bool))


def accuracy(judged_rows: pd.DataFrame) -> Estimate | None:
    """Return the share of answers that were right, of those given; None without any.

    Wilson's interval for as many independent inputs as there are distinct ones.
    """
    n = len(judged_rows)
    if not n:
        return None
    share = binomial_interval(int(judged_rows["right"].sum()), n, effective := _effective(judged_rows["content"]))
    return Estimate(share.value, share.low, share.high, n, 1, f"{share.method}, {effective:.0f} distinct inputs' worth")


def roc_auc(judged_rows: pd.DataFrame, positive: str | None) -> Estimate | None:
    """Return the area under the ROC curve of the scores in `prediction`; None unless both kinds of label occur.

    The value is the Mann-Whitney statistic of all rows, the interval DeLong's (Biometrics 44, 1988, 837) over distinct
    inputs, on the logit scale; none where every positive outscores every negative.
    """
    if positive is None or judged_rows.empty:
        return None
    rows = judged_rows[judged_rows["prediction"].notna()]
    of = (rows["label"] == positive).to_numpy(bool)
    if not of.any() or of.all():
        return None
    value = area(rows["prediction"].to_numpy(float), of)[0]
    once = rows.drop_duplicates("content")
    of = (once["label"] == positive).to_numpy(bool)
    _, error = area(once["prediction"].to_numpy(float), of) if 1 < of.sum() < len(of) - 1 else (value, 0.0)
    if not 0 < value < 1 or not error > 0:
        return Estimate(value, None, None, len(rows), 1, "no interval: the scores do not overlap")
    reach = _Z * error / (value * (1 - value))
    low, high = (float(expit(logit(value) + sign * reach)) for sign in (-1, 1))
    return Estimate(value, low, high, len(rows), 1, f"DeLong, {CONFIDENCE:.0%}, {len(once)} distinct inputs")


def difference(a: pd.DataFrame, b: pd.DataFrame) -> Estimate | None:
    """Return how much more often b was right than a, over requests that both answered; None without any.

    Pairs of which one is right count alone, so the interval is far narrower than those of a and b: Agresti and Min's
    (Statistics in Medicine 24, 2005, 729), half a pair added to each of the four kinds.
    """
    if a.empty or b.empty:
        return None
    both = a[[*KEY, "right", "content"]].merge(b[[*KEY, "right"]], on=KEY, suffixes=("_a", "_b"))
    if not (n := len(both)):
        return None
    of_a, of_b = both["right_a"].to_numpy(bool), both["right_b"].to_numpy(bool)
    worth = _effective(both["content"])
    value, low, high = paired_shares(int((of_b & ~of_a).sum()), int((of_a & ~of_b).sum()), n, worth)
    return Estimate(value, low, high, n, 1, f"Agresti and Min, {CONFIDENCE:.0%}, {worth:.0f} distinct inputs' worth")


def paired_shares(gained: int, lost: int, n: int, worth: float) -> tuple[float, float, float]:
    """Return (gained − lost) / n and the ends of its interval, for n pairs worth `worth` independent ones."""
    value, size = (gained - lost) / n, worth + 2
    more, less = gained * worth / n + 0.5, lost * worth / n + 0.5
    middle = (more - less) / size
    half = _Z * math.sqrt(max(more + less - (more - less) ** 2 / size, 0.0)) / size
    return value, max(min(value, middle - half), -1.0), min(max(value, middle + half), 1.0)


def _effective(content: pd.Series) -> float:
    times = content.value_counts().to_numpy(float)
    return float(times.sum() ** 2 / (times**2).sum())


def area(scores: FloatArray, positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error.

    By midranks: Sun and Xu, IEEE Signal Processing Letters 21, 2014, 1389.
    """
    high, low = scores[positive], scores[~positive]
    p, q = high.size, low.size
    together = rankdata(np.concatenate([high, low]))
    above = (together[:p] - rankdata(high)) / q  # of each positive: the share of negatives below it
    below = 1 - (together[p:] - rankdata(low)) / p
    variance = above.var(ddof=1) / p + below.var(ddof=1) / q if min(p, q) > 1 else 0.0
    return float(above.mean()), math.sqrt(variance)
