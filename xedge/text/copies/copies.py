"""A copy of the model in every worker, or one shared service? Measures memory and latency of both."""

import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xedge.core import machine
from xedge.core.exceptions import ConfigurationError, RegistryError, ServiceError
from xedge.core.paths import models_dir
from xedge.core.progress import Progress
from xedge.models.kinds import registered_folder
from xedge.models.lookup import model_path
from xedge.results.measurement import Measurement
from xedge.scenario.arrivals import Poisson
from xedge.scenario.sources import Texts
from xedge.text.copies.arrangements import ARRANGEMENTS, MQTT, Arrangement, memory_mb
from xedge.text.copies.comparison import CopyOrServe
from xedge.text.copies.worker import TIMEOUT_S

WARM_UP_SHARE = 0.05


def model_folder(task: str = "topic") -> Path:
    """Return the folder of the task's model in production; where none is registered, one is trained in `models/text`.

    It is trained quickly: here it matters what a model costs, not how often it is right. And in a process of its own,
    for what training loads would share memory with the processes to be measured.

    Raises:
        ServiceError: the training failed.
    """
    with suppress(RegistryError):
        if (folder := registered_folder(f"xedge-{task}")) is not None:
            return folder
    folder = models_dir() / "text" / task
    if not (folder / "card.json").is_file():
        code = "from xedge.text.training.train import train; "
        code += f"train({task!r}, {str(folder)!r}, quick=True, progress=False)"
        done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
        if done.returncode:
            words = " / ".join(done.stderr.strip().splitlines()[-3:]) or f"it ended with status {done.returncode}"
            raise ServiceError(f"the {task} model could not be trained: {words}")
    return folder


def compare(
    folder: Path,
    workers: Sequence[int] = (1, 2, 4),
    rate_hz: float = 100.0,
    duration_s: float = 1.0,
    replications: int = 3,
    *,
    seed: int = 0,
    strict: bool = True,
    progress: bool = True,
) -> CopyOrServe:
    """Measure the three arrangements with each number of workers.

    First the memory, one arrangement after the other, worker by worker; then the latency, with all arrangements up and
    taking turns on the same schedules. A worker answers one text at a time; what falls due meanwhile waits.

    Args:
        folder: the topic model's.
        workers: how many processes need topics; the memory is measured for every number up to the largest.
        rate_hz: texts a second that each worker gets, Poisson arrivals.
        duration_s: how long one trial lasts.
        replications: trials of each arrangement and number of workers.
        seed: schedules and texts are drawn from it.
        strict: workers that could not see their texts in time make the result INVALID; False makes it a doubt.
        progress: show progress in the terminal or the notebook.

    Raises:
        ConfigurationError: a number of workers below one, or none.
        ModelNotFoundError: `folder` holds no text model.
        ServiceError, BrokerError: something that is needed did not start.
    """
    counts = sorted(set(workers))
    if not counts or counts[0] < 1 or replications < 1:
        raise ConfigurationError(f"workers={list(workers)}, replications={replications}: each must be 1 or more")
    model_path(folder, ".onnx")  # that it is not there is told before anything starts
    began, load_before = datetime.now(UTC).isoformat(timespec="seconds"), machine.load_average()
    trials = len(ARRANGEMENTS) * len(counts) * replications
    with Progress(trials + len(ARRANGEMENTS), "steps", "copy or serve", progress) as bar:
        memory: list[dict[str, Any]] = []
        for done, (name, arrange) in enumerate(ARRANGEMENTS.items(), 1):
            with arrange(folder) as arrangement:
                memory += [{"arrangement": name, **row} for row in _memory(arrangement, counts[-1])]
            bar.update(done)
        tables: dict[int, list[pd.DataFrame]] = {count: [] for count in counts}
        with ExitStack() as stack:
            up = {name: stack.enter_context(arrange(folder)) for name, arrange in ARRANGEMENTS.items()}
            for arrangement in up.values():
                arrangement.grow(counts[-1])
            for replication in range(replications):
                for count in counts:
                    flights = _flights(count, rate_hz, duration_s, seed, replication)
                    for name in list(up) if replication % 2 == 0 else list(up)[::-1]:
                        tables[count].append(_trial(up[name], name, replication, flights))
                        bar.update(done := done + 1)
        bar.finish(f"{trials} trials, {sum(len(rows) for table in tables.values() for rows in table)} texts")
    shared = {"replications": replications, "strict": strict, "timeout_s": TIMEOUT_S, "started_at": began}
    shared |= {"broker": up[MQTT].facts, "host": machine.host() | {"load_average_before": load_before}}
    shared |= {"versions": machine.versions(), "git_commit": machine.git_commit()}
    workload = {"kind": "poisson", "rate_hz": rate_hz, "duration_s": duration_s}
    measurements = {}
    for count in counts:
        scenario = {"model": "xedge-topic", "workload": workload, "workers": count, "seed": seed}
        measurements[count] = Measurement(pd.concat(tables[count], ignore_index=True), shared | {"scenario": scenario})
    return CopyOrServe(measurements, pd.DataFrame(memory), rate_hz)


def _memory(arrangement: Arrangement, most: int) -> Iterator[dict[str, Any]]:
    for count in range(1, most + 1):
        arrangement.grow(count)
        parts = {"workers": [worker.pid for worker in arrangement.workers], "service": [], "broker": []}
        parts |= arrangement.shared
        read = {part: [memory_mb(pid) for pid in pids] for part, pids in parts.items()}
        kinds = {kind for values in read.values() for _, kind in values}
        row = {f"{part}_mb": sum(value for value, _ in values) for part, values in read.items()}
        yield {"workers": count, **row, "total_mb": sum(row.values()), "kind": "PSS" if kinds == {"PSS"} else "RSS"}


def _flights(count: int, rate_hz: float, duration_s: float, seed: int, replication: int) -> list[dict[str, Any]]:
    """One schedule with its texts for each worker, the same for every arrangement."""
    flights = []
    for stream in np.random.SeedSequence([seed, replication, count]).spawn(count):
        schedule, content = map(int, stream.generate_state(2))
        due_ns = Poisson(rate_hz=rate_hz, duration_s=duration_s).due_ns(schedule)
        flights.append({"due_ns": due_ns.tolist(), "texts": Texts().inputs(len(due_ns), (), content)})
    return flights


def _trial(arrangement: Arrangement, name: str, replication: int, flights: list[dict[str, Any]]) -> pd.DataFrame:
    """Fly, and return one row a text, in the order in which they were due."""
    logs = arrangement.fly(flights)
    due = np.concatenate([np.asarray(flight["due_ns"], np.int64) for flight in flights])
    seen, begun, answered = np.concatenate([np.reshape(log, (-1, 3)) for log in logs]).astype(np.int64).T
    rows = pd.DataFrame({"placement": name, "replication": replication, "due_ns": due, "sent_ns": seen})
    rows["arrived_ns"], rows["started_ns"] = seen, begun
    failed = answered < 0
    rows["finished_ns"] = rows["departed_ns"] = rows["received_ns"] = pd.Series(answered, dtype="Int64").mask(failed)
    rows["status"] = np.where(failed, "error", "ok")
    rows["error"] = pd.Series("no answer", range(len(rows)), dtype=object).where(failed, None)
    rows["worker"] = np.repeat(np.arange(len(flights)), [len(flight["due_ns"]) for flight in flights])
    rows["prediction"], rows["payload_bytes"] = math.nan, [len(t.encode()) for f in flights for t in f["texts"]]
    rows = rows.sort_values("due_ns", kind="stable", ignore_index=True)
    rows["request"], rows["warm_up"] = np.arange(len(rows)), np.arange(len(rows)) < WARM_UP_SHARE * len(rows)
    return rows
