"""Doubts about what went wrong in the trials, asked for by the scenario or not."""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from xedge.results.doubt import Doubt
from xedge.results.evidence import Evidence
from xedge.results.words import count


def reconnected(of: Evidence) -> Iterator[Doubt]:
    """The broker went away during a trial, unasked: what was not sent or answered then is neither's fault."""
    own = [trial for trial in of.conditions.trials if trial.placement == of.placement]
    when = {number: [d.span() for d in known if not d.asked] for number, known in of.disruptions.items()}
    restarted = [trial.replication for trial in own if any(f.kind == "broker_restart" for f in trial.faults)]
    lost = [t.replication for t in own if when.get(t.replication) or (t.reconnects and t.replication not in restarted)]
    if lost:
        named = ", ".join(" ".join([str(number), *when.get(number, [])]) for number in lost)
        text = (
            f"the connection to the broker was lost and made again in replication {named}; requests that failed then "
        )
        text += "tell of the broker, not of the service"
        yield Doubt(of.placement, "severe", text, "look into the broker's log, then measure again")


def brokerless(of: Evidence) -> Iterator[Doubt]:
    """Over 1 % of the requests failed while the broker was away, unasked: no result of a place."""
    if len(of.measured) - len(of.quiet) and away_share(of) > 0.01:
        yield from reconnected(of)


def away_share(of: Evidence) -> float:
    """Return the share of the measured requests that were not answered and due while the broker was away, unasked."""
    failed = 0
    for replication, known in of.disruptions.items():
        trial = of.trials[replication]
        bad = trial[~trial["warm_up"] & (trial["status"] != "ok")]
        due_s = bad["due_ns"].to_numpy(dtype=float) / 1e9
        away = [disruption.hits(due_s) for disruption in known if not disruption.asked]
        failed += int(np.any(away, axis=0).sum()) if away else 0
    return failed / max(len(of.measured), 1)


def disrupted(of: Evidence) -> Iterator[Doubt]:
    """Faults that were asked for: how many requests they cost, which were not over, and which could not be done."""
    asked = [(number, d) for number, known in of.disruptions.items() for d in known if d.asked]
    if not asked:
        return
    kinds = ", ".join(f"{name} ({count(n)})" for name, n in Counter(d.name for _, d in asked).items())
    hit = of.measured.drop(index=of.quiet.index)
    failed = int((hit["status"] != "ok").sum())
    text = f"faults that were asked for are in the numbers: {kinds}; of {count(len(hit))} requests that met them "
    yield Doubt(of.placement, "note", f"{text}{count(failed)} failed")
    if undone := [f"{d.name} in replication {number} ({d.failure})" for number, d in asked if d.failure]:
        yield Doubt(of.placement, "severe", f"not done or not mended: {', '.join(undone)}", "measure again")
    if slow := [f"{d.name} in replication {number}" for number, d in asked if math.isinf(d.recovered_s)]:
        text = f"no answers as fast as before, to the end of the trial or the next fault, after {', '.join(slow)}"
        yield Doubt(of.placement, "warning", text, "make the trials longer (duration_s), or the faults fewer")
