"""Run every benchmark, or those named, and say which limits were missed."""

from __future__ import annotations

import sys

from benchmarks import (
    cloud,
    container,
    edge,
    http,
    instrument,
    kafka,
    links,
    load,
    report,
    reproducibility,
    sender,
    text,
    tls,
    watch,
)

EACH = (edge, cloud, http, kafka, links, load, sender, watch, container, instrument, report, reproducibility, text, tls)
ALL = {module.__name__.removeprefix("benchmarks."): module.main for module in EACH}

wanted = sys.argv[1:] or list(ALL)
if unknown := [name for name in wanted if name not in ALL]:
    sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}")
missed = [f"{name}: {what}" for name in wanted for what in ALL[name]()]
print("all limits reached" if not missed else "missed: " + "; ".join(missed))
