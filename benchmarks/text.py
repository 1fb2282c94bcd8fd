"""Text models: warm and cold calls, beside the bare engine and MLflow's usual way, and hot reloads under load."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Table
from xedge import text
from xedge.models.engines import OnnxEngine
from xedge.text.features import encode_batch
from xedge.text.model import TextModel
from xedge.text.registry.registry import Registry
from xedge.text.training.corpus import read
from xedge.text.training.train import train

ROOT = Path(__file__).resolve().parents[1]
END = """
ended = perf_counter()
pss = next(line for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:"))
print((ended - begun) * 1e3, int(pss.split()[1]) / 1024)"""
COLD = "from time import perf_counter; begun = perf_counter()\n"
OURS = COLD + "from xedge.text import predict_topic; predict_topic('The home team won the cup.')" + END
USUAL = COLD + "import mlflow.pyfunc; mlflow.pyfunc.load_model({folder!r}).predict(['The home team won.'])" + END


@contextmanager
def registry_of_two() -> Iterator[tuple[Registry, list[Path]]]:
    """A registry in a temporary folder with two versions of the topic model, the first in production."""
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder) / "registry")
        os.environ["MLFLOW_TRACKING_URI"] = registry.uri
        for seed in (0, 1):
            train("topic", Path(folder) / f"{seed}", seed=seed, quick=True, progress=False)
        made = [registry.register("topic", Path(folder) / f"{seed}") for seed in (0, 1)]
        registry.promote("topic", made[0].version)
        yield registry, [one.folder for one in made]


def pyfunc(version: Path) -> Any:
    """The same model as MLflow's usual wrapper serves it, and the folder it is saved in."""
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

        class Wrapped(mlflow.pyfunc.PythonModel):
            def load_context(self, context: Any) -> None:
                self.model = TextModel.load(context.artifacts["version"])

            def predict(self, model_input: list[str]):
                return self.model.probabilities(list(model_input))

        folder = str(version.parent / "pyfunc")
        mlflow.pyfunc.save_model(
            folder, python_model=Wrapped(), artifacts={"version": str(version)}, pip_requirements=[]
        )
        return mlflow.pyfunc.load_model(folder), folder


def durations_ms(call: Callable[[str], Any], texts: list[str]) -> NDArray[np.float64]:
    """How long each call took, one after the other."""
    taken = np.empty(len(texts))
    for k, one in enumerate(texts):
        begun = perf_counter_ns()
        call(one)
        taken[k] = perf_counter_ns() - begun
    return taken / 1e6


def cold(script: str, n: int) -> NDArray[np.float64]:
    """Milliseconds to the first answer and memory (PSS) in MiB, each in a fresh process."""
    command = [sys.executable, "-W", "ignore", "-c", script]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT) for _ in range(n)]
    return np.array([[float(word) for word in run.stdout.split()[-2:]] for run in runs])


def soak(registry: Registry, folders: list[Path], calls: int, threads: int, reloads: int) -> dict[str, float]:
    """Calls from many threads while the production version changes: errors, answers of a mixed version, slowest."""
    texts = read("topic").texts[:50]
    wanted = {str(k): TextModel.load(folder).probabilities(texts) for k, folder in enumerate(folders, 1)}
    found = {"errors": 0, "mixed": 0, "answered": 0}
    taken: list[float] = []
    lock, ended = threading.Lock(), threading.Event()

    def ask(k: int) -> None:
        mine, mixed, errors, number = [], 0, 0, k
        while len(mine) < calls // threads or not ended.is_set():
            number += 1
            place = number % len(texts)
            begun = perf_counter_ns()
            try:
                answer = text.predict_topic(texts[place], 8)
            except Exception:
                errors += 1
                continue
            mine.append((perf_counter_ns() - begun) / 1e6)
            expected = np.sort(wanted[answer["model_version"]][place])[::-1]
            mixed += not np.allclose([one["confidence"] for one in answer["predictions"]], expected, atol=1e-5)
        with lock:
            taken.extend(mine)
            found["errors"] += errors
            found["mixed"] += mixed
            found["answered"] += len(mine)

    workers = [threading.Thread(target=ask, args=(k,)) for k in range(threads)]
    for worker in workers:
        worker.start()
    begun = perf_counter_ns()
    for number in range(reloads):
        registry.promote("topic", 2 - number % 2)
        text.reload_model("topic")
    found["a change, mean"] = (perf_counter_ns() - begun) / 1e6 / reloads
    ended.set()
    for worker in workers:
        worker.join()
    return found | {"p50": float(np.median(taken)), "p99": float(np.quantile(taken, 0.99)), "slowest": max(taken)}


def main(rounds: int = 10, n: int = 2000, processes: int = 5) -> list[str]:
    table = Table()
    with registry_of_two() as (registry, folders):
        texts = (read("topic").texts * (n // 100))[:n]
        print(f"predict_topic, warm, {rounds} × {n} different sentences an arm in turn")
        text.predict_topic(texts[0])
        wrapped, saved = pyfunc(folders[0])
        engine = OnnxEngine(folders[0] / "model.onnx")
        session, name = engine._session, engine._input
        arms: dict[str, Callable[[str], Any]] = {
            "predict_topic": text.predict_topic,
            "encode and session.run": lambda one: session.run(None, {name: encode_batch([one])}),
            "MLflow pyfunc": lambda one: wrapped.predict([one]),
        }
        taken: dict[str, list[NDArray[np.float64]]] = {arm: [] for arm in arms}
        for number in range(rounds):
            for arm in list(arms)[:: 1 if number % 2 else -1]:
                taken[arm].append(durations_ms(arms[arm], texts))
        for arm, limits in (("predict_topic", (0.5, 2.0)), ("encode and session.run", ()), ("MLflow pyfunc", ())):
            for p, limit in zip((0.5, 0.99), limits or (None, None), strict=True):
                table.row(f"{arm} p{p * 100:g}", float(np.quantile(np.concatenate(taken[arm]), p)), "ms", limit)
        for base in list(arms)[1:]:
            pairs = zip(taken["predict_topic"], taken[base], strict=True)
            ratios = [float(np.median(ours) / np.median(other)) for ours, other in pairs]
            table.row(f"predict_topic / {base} p50, median of the rounds", float(np.median(ratios)), "×")

        print(f"the first answer of a fresh process, {processes} processes an arm, registry in a folder")
        for arm, script, limit in (("predict_topic", OURS, 3000), ("MLflow pyfunc", USUAL.format(folder=saved), None)):
            found = cold(script, processes)
            table.row(f"{arm}, median", float(np.median(found[:, 0])), "ms")
            table.row(f"{arm}, slowest", float(found[:, 0].max()), "ms", limit)
            table.row(f"{arm}, memory of the process (PSS)", float(np.median(found[:, 1])), "MiB")

        print("30 000 calls or more from 8 threads, until 10 changes of the production version are over")
        counted = soak(registry, folders, 30_000, 8, 10)
        table.row("calls answered", counted["answered"], "calls", 30_000, at_least=True)
        for what in ("errors", "mixed"):
            table.row(what, counted[what], "", 0)
        for what in ("p50", "p99", "slowest"):
            table.row(f"a call among 8 busy threads, {what}", counted[what], "ms")
        table.row("promotion and reload among them, mean of 10", counted["a change, mean"], "ms")
    return table.missed


if __name__ == "__main__":
    sys.exit(bool(main()))
