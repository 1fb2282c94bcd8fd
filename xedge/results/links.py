"""Doubts about links: another delay than was asked for or published, other losses, one client among many."""

from collections.abc import Iterator, Sequence

from xedge.results import rows
from xedge.results.conditions import LinkLevel
from xedge.results.doubt import LONGER, SETTLE, SLOWER, Doubt
from xedge.results.evidence import Evidence
from xedge.results.statistics import quantile
from xedge.results.words import level_name, number
from xedge.scenario.link import presets, published

LINK_TOLERANCE_MS = {"p50": (0.5, 0.5), "p99": (0.99, 2.0)}  # level: as a share, and how far it may be off
OTHER_DELAYS = 0.10  # so far may the delays that messages met be off from those published of a network


def link(of: Evidence) -> Iterator[Doubt]:
    """Links: the delay in the trials (else in the check before) off from the requested one, or other losses."""
    if (check := of.conditions.link_check.get(of.placement)) is None:
        return
    crossed_ms = rows.parts_ns(of.quiet)[["uplink", "downlink"]].sum(axis=1, skipna=False).dropna() / 1e6
    asked_of = {level_name(level.p): level.effective_ms for level in check.by_level} if len(crossed_ms) else {}
    if not asked_of and (off_ms := check.off_ms.p50_ms or 0.0) > LINK_TOLERANCE_MS["p50"][1]:
        text = f"in the check before the trials the link was off by {off_ms:.3g} ms, message by message, at the median"
        yield Doubt(of.placement, "warning", text, SETTLE)
    if check.lost.differing:
        text = f"{check.lost.measured} of the link's messages were lost where {check.lost.requested} were asked for"
        yield Doubt(of.placement, "warning", f"{text}: {check.lost.differing} differ", SETTLE)
    for level, (p, tolerance) in LINK_TOLERANCE_MS.items():
        asked, delay = getattr(check.requested_ms, f"{level}_ms"), getattr(check.measured_ms, f"{level}_ms")
        if asked_of:
            asked, delay = asked_of.get(level), quantile(crossed_ms, p)
        if asked is not None and delay is not None and abs(delay - asked) > tolerance:
            where = "in the trials" if asked_of else "in the check before the trials"
            text = f"{where} the link's {level} was {delay:.4g} ms where {asked:.4g} ms was asked for"
            yield Doubt(of.placement, "warning", text, SETTLE)
    if other := other_delays(check.by_level):
        yield Doubt(of.placement, "warning", *other)


def one_client(of: Evidence) -> Iterator[Doubt]:
    """The network is that of one client among those measured: a slower one has a longer way."""
    links = of.conditions.scenario.placements.get(of.placement)
    uplink = None if links is None else links.uplink or links.link
    name, _, kind = (uplink.source or "" if uplink else "").partition(" (")
    if uplink is None or not kind.startswith("across") or name not in presets():
        return
    own_ms, rtt_ms = 2 * uplink.least_ms, {float(p): ms for p, ms in published(name)["rtt_ms"].items()}
    slower = ", ".join(f"{level_name(p)} has {ms:g} ms" for p, ms in rtt_ms.items() if p >= 0.9 and ms > 1.1 * own_ms)
    if slower:
        text = f"{name} stands for one client, {own_ms:.3g} ms there and back; of those measured {slower}"
        yield Doubt(of.placement, "note", text, "measure a slower client too (client=0.95 of the preset)")


def other_delays(levels: Sequence[LinkLevel]) -> tuple[str, str] | None:
    """Say where the delays that messages met are over `OTHER_DELAYS` off from those published or drawn; what to do."""

    def apart(ms: float, other_ms: float) -> bool:
        return abs(ms - other_ms) > max(OTHER_DELAYS * other_ms, LINK_TOLERANCE_MS["p50"][1])

    expected = [level.drawn_ms if level.published_ms is None else level.published_ms for level in levels]
    if not (off := [(level, ms) for level, ms in zip(levels, expected, strict=True) if apart(level.effective_ms, ms)]):
        return None
    met = ", ".join(f"{level_name(level.p)} {number(level.effective_ms)} ms" for level, _ in off)
    where, source = ", ".join(number(ms) for _, ms in off), "drawn" if off[0][0].published_ms is None else "published"
    if any(apart(level.effective_ms, level.drawn_ms) for level, _ in off):
        why, remedy = "nothing overtakes, so at this rate messages wait for those before them", SLOWER
    else:
        why, remedy = "they change slowly, so trials this short meet few of them", LONGER
    return f"the delays that the network added in these trials have {met} where {where} ms are {source}: {why}", remedy
