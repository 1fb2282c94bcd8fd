"""Whether trials show that answers kept pace with what was offered, or are too short to tell; pure."""

import math
from collections.abc import Sequence

from xedge.results.steadiness import Steadiness
from xedge.results.words import count, percent

SHORTFALL = 0.02  # of the requests may be left over at the end of the trials
UNNOTICED = 0.10  # so large a shortfall must not be able to hide in chance


def doubt_of_pace(trials: Sequence[Steadiness], of: int) -> str:
    """Return why `trials` do not show that answers kept pace, "" if they do; `of` counts those too short to judge too.

    The shortfall is the share of the requests offered that was not answered as they came, all trials together. Chance
    moves it by up to 2 √(2 Σ swing²) / requests (two standard errors), because the number of open requests at both ends
    of a trial swings, by as much as a batch where a service takes many requests at once. Pace is shown by a shortfall
    of at most `SHORTFALL` that chance leaves below `UNNOTICED`.
    """
    if 2 * len(trials) <= of:
        return "the trials are too short to tell whether answers keep pace"
    offered, answered = (sum(sum(getattr(trial, what)) for trial in trials) for what in ("offered", "answered"))
    shortfall = 1 - answered / offered
    chance = 2 * math.sqrt(2 * sum(trial.swing**2 for trial in trials)) / offered
    if shortfall <= SHORTFALL and shortfall + chance <= UNNOTICED:
        return ""
    counted = f"answered {count(answered)} of {count(offered)} requests as they came"
    if shortfall > SHORTFALL:
        return f"{counted}: too few to say that it keeps pace, and too short a time to say that it does not"
    return f"{counted}, but by chance alone that may be off by {percent(chance)}: the trials are too short"
