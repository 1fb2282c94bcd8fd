"""What each network does to a service: its latency, and what takes how much of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xedge.core.extras import needed
from xedge.core.tables import html_table
from xedge.reports.publish import findings
from xedge.reports.study import Findings
from xedge.results import words
from xedge.results.conditions import typed
from xedge.results.links import other_delays
from xedge.results.measurement import Measurement
from xedge.results.rows import parts_ns
from xedge.results.statistics import FloatArray, quantile
from xedge.scenario import link

if TYPE_CHECKING:
    from IPython.display import HTML


def presets(names: Iterable[str] | None = None) -> HTML:
    """Return published networks as a table, one a row: round trip at quantiles, spread over what, rates, source."""
    with needed("lab", "tables"):
        from IPython.display import HTML

    rows = []
    for name in link.presets() if names is None else names:
        facts = link.published(name)
        levels = {"least" if p == "0" else f"p{100 * float(p):g}": ms for p, ms in facts["rtt_ms"].items()}
        round_trip = ", ".join(f"{level} {ms:g}" for level, ms in levels.items())
        rates = ", ".join(f"{facts[f'{way}_mbps']:g} {way}" for way in ("up", "down") if f"{way}_mbps" in facts)
        source = "; ".join(filter(None, (facts["source"], facts.get("note"))))
        rows.append([name, facts["what"], round_trip, facts["kind"], rates, source])
    return HTML(html_table(["", "what", "round trip, ms", "spread", "Mbit/s", "source"], rows))  # type: ignore[no-untyped-call]


CROSSING = "network and broker"


@dataclass(frozen=True)
class Networks:
    """A measurement whose placements are one service behind several networks."""

    measurement: Measurement

    def table(self) -> pd.DataFrame:
        """Return a row a placement: p50 and p99 of the latency, and what takes how much of its mean."""
        rows = {}
        for name in self.measurement.placements:
            shares, (p50, p99) = self.shares(name), self._latencies(name, "")
            steady = (
                name not in self.measurement.verdict.saturated
            )  # what takes how much of a growing queue says nothing
            mostly = max(shares, key=shares.__getitem__) if steady else "–"
            rows[name] = {"p50, ms": p50, "p99, ms": p99, "mostly": mostly}
            rows[name] |= {part: words.percent(share) if steady else "–" for part, share in shares.items()}
        return pd.DataFrame.from_dict(rows, orient="index")

    def delays(self) -> pd.DataFrame:
        """Return a row a network and level: its round trip as published, drawn, met and measured in these trials, ms.

        *Drawn* is what the links drew for the requests of these trials, *met* adds that nothing overtakes: both are
        arithmetic. *Measured* is the way of these requests through links and timers. What is not known is "–".
        """
        rows = []
        for name, check in typed(self.measurement.conditions).link_check.items():
            measured_ms = self.crossed_ms(name)
            for level in check.by_level:
                row: dict[str, Any] = {"network": name, "": words.level_name(level.p)}
                row |= {"published, ms": level.published_ms, "drawn, ms": level.drawn_ms, "met, ms": level.effective_ms}
                rows.append(row | {"measured, ms": quantile(measured_ms, level.p) if len(measured_ms) else None})
        heads = ["network", "", "published, ms", "drawn, ms", "met, ms", "measured, ms"]
        table = pd.DataFrame(rows, columns=heads).set_index(heads[:2])
        return table.map(lambda ms: "–" if pd.isna(ms) else words.number(ms))

    def crossed_ms(self, placement: str) -> FloatArray:
        """Return how long the way there and back took each answered request, the broker's part apart, ms."""
        own = self.measurement.rows[self.measurement.rows["placement"] == placement]
        stamped = own[own[["sent_ns", "arrived_ns", "finished_ns", "departed_ns"]].notna().all(axis=1)]
        parts = parts_ns(stamped)
        crossed_ms: FloatArray = (parts["uplink"] + parts["downlink"]).to_numpy(dtype=np.float64) / 1e6
        return crossed_ms

    def conclusion(self) -> str:
        """Return a sentence a placement, and the verdict where it is not VALID: how fast, and what dominates."""
        verdict = self.measurement.verdict
        sentences = [] if verdict.valid else [f"{verdict}."]
        for name in self.measurement.placements:
            if name in verdict.saturated:
                sentences.append(f"{name}: no steady state at this rate, so no latency to report.")
                continue
            (p50, p99), shares = self._latencies(name, " ms"), self.shares(name)
            most = max(shares, key=shares.__getitem__)
            what = most if name in self._behind_links or most != CROSSING else "the broker, for there is no network"
            sentences.append(
                f"{name}: p50 {p50}, p99 {p99}; {words.percent(shares[most])} of the mean latency is {what}."
            )
        checks = typed(self.measurement.conditions).link_check.items()
        others = {name: other for name, check in checks if (other := other_delays(check.by_level))}
        sentences += [f"Doubt: {name}: {text}; {remedy}." for name, (text, remedy) in others.items()]
        return "\n\n".join(sentences)

    def findings(self) -> Findings:
        """Return what a page shows: the measurement, concluded by what dominates."""
        return replace(findings(self.measurement), conclusion=self.conclusion(), answer="")

    def shares(self, placement: str) -> dict[str, float]:
        """Return the shares of the mean latency; without emulated links the first is the broker alone."""
        table = self.measurement.breakdown()
        share = table[table["placement"] == placement].set_index("part")["share"].fillna(0.0)
        crossing = float(share[["broker in", "uplink", "downlink", "broker out"]].sum())
        inside = {part: float(share[part]) for part in ("queueing", "inference")}
        return {CROSSING: crossing, **inside, "a late sender": float(share["lateness"])}

    @property
    def _behind_links(self) -> set[str]:
        return set(typed(self.measurement.conditions).link_check)

    def _latencies(self, placement: str, unit: str) -> tuple[str, str]:
        """The p50 and p99 of a placement as people read them; none of one without a steady state."""
        if placement in self.measurement.verdict.saturated:
            return "saturated", "saturated"
        timeout_s = self.measurement.conditions.get("timeout_s")
        p50, p99 = (self.measurement.estimate(placement, p) for p in (0.5, 0.99))
        return words.milliseconds(p50, timeout_s, unit), words.milliseconds(p99, timeout_s, unit)
