"""Keeps services at half of what they can do, in turn, and reads again and again what their processes hold."""

import math
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from xedge.core import machine
from xedge.core.exceptions import ConfigurationError, ServiceError
from xedge.core.progress import Progress
from xedge.results.statistics import quantile
from xedge.studies.soak.result import Soak
from xedge.studies.soak.services import SERVICES

SAMPLES = 60  # of each service, as far as `LONGEST_S` and `SHORTEST_S` allow
FEWEST = 5
SHORTEST_S, LONGEST_S = 0.25, 15.0  # from one sample to the next
PROC = Path("/proc")


def watch(
    services: Sequence[str] = tuple(SERVICES),
    minutes: float = 60.0,
    share: float = 0.5,
    *,
    seed: int = 0,
    progress: bool = True,
) -> Soak:
    """Watch each of the services in turn while it is asked at a share of its ceiling; return what was seen.

    The ceiling is what it answers while callers never pause, learnt first. Then schedules of a few seconds follow each
    other, and after each the service's processes are read: memory (RSS), open descriptors, threads.

    Args:
        services: of "edge", "cloud", "http" (texts) and "text" (over MQTT).
        minutes: how long all of it lasts; each service has an equal part.
        share: of the ceiling, above 0 and below 1.
        seed: schedules and contents are drawn from it.
        progress: show progress in the terminal or the notebook.

    Raises:
        ConfigurationError: no such service, or numbers that make no sense; or this is no Linux.
        ServiceError, BrokerError: something did not start, or ended.
    """
    if unknown := [name for name in services if name not in SERVICES]:
        raise ConfigurationError(f"no service {unknown[0]!r} to watch: there are {', '.join(SERVICES)}")
    if not services or not 0 < share < 1 or not 0 < minutes < math.inf:
        raise ConfigurationError(f"services={list(services)}, share={share}, minutes={minutes}: give at least one "
                                 "service, a share between 0 and 1, and minutes above 0")  # fmt: skip
    if not (PROC / "self" / "statm").is_file():
        raise ConfigurationError("a soak reads what processes hold from /proc: it needs Linux")
    load_before = machine.load_average()
    part_s = minutes * 60 / len(services)
    sample_s = min(max(part_s / SAMPLES, SHORTEST_S), LONGEST_S)
    samples: list[dict[str, Any]] = []
    ceilings: dict[str, float] = {}
    with Progress(round(60 * minutes), "s", "watching", progress) as bar:
        for turn, name in enumerate(services):
            bar.phase(f"{name}: what it can do at most")
            with SERVICES[name]() as watched:
                ceilings[name] = max(watched.flood() for _ in range(2))
                bar.phase(f"{name}: {share * ceilings[name]:.0f} requests/s")
                began, number = perf_counter(), 0
                while (gone_s := perf_counter() - began) < part_s or number < FEWEST:
                    bar.update(round(turn * part_s + min(gone_s, part_s)))
                    latency_ms = watched.ask(share * ceilings[name], sample_s, 1000 * seed + number)
                    answered = np.isfinite(latency_ms)
                    row = {"service": name, "at_s": perf_counter() - began, "requests": len(latency_ms)}
                    row |= {"answered": int(answered.sum()), "p50_ms": quantile(latency_ms, 0.5)}
                    samples.append(row | {"p99_ms": quantile(latency_ms, 0.99)} | held(watched.pids))
                    number += 1
        requests = sum(row["requests"] for row in samples)
        bar.finish(f"{len(services)} services watched for {minutes:g} min, {requests} requests")
    conditions: dict[str, Any] = {
        "host": machine.host(),
        "versions": machine.versions(),
        "git_commit": machine.git_commit(),
    }
    conditions |= {
        "load_average_before": load_before,
        "minutes": minutes,
        "share": share,
        "seed": seed,
        "sample_s": sample_s,
    }
    return Soak(pd.DataFrame(samples), ceilings, share, conditions)


def held(pids: Sequence[int]) -> dict[str, float]:
    """Return what processes hold together: `rss_mb`, `descriptors`, `threads`.

    Raises:
        ServiceError: one of them has ended.
    """
    rss_mb = descriptors = threads = 0.0
    for pid in pids:
        try:
            status = dict(line.split(":", 1) for line in (PROC / str(pid) / "status").read_text().splitlines())
            rss_mb += int(status["VmRSS"].split()[0]) * 1024 / 1e6
            threads += int(status["Threads"])
            descriptors += len(list((PROC / str(pid) / "fd").iterdir()))
        except (OSError, KeyError):
            raise ServiceError(f"a process of the service that is watched has ended (its number was {pid})") from None
    return {"rss_mb": rss_mb, "descriptors": descriptors, "threads": threads}
