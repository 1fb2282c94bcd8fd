"""Kafka: messages answered a second in batches of 500 and one by one, with both models and with no model at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from confluent_kafka import Producer

from benchmarks.harness import Table
from xedge.text.callers.kafka import TextConsumer
from xedge.text.registry.versions import variable_of
from xedge.text.training.corpus import read
from xedge.text.training.train import train

BATCH = 500
ARMS = {"batches of 500": BATCH, "one by one": 1}
_numbers = count(1)


@contextmanager
def models() -> Iterator[None]:
    """Both text models, trained quickly in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        for task in ("topic", "sentiment"):
            os.environ[variable_of(task)] = str(train(task, Path(folder) / task, quick=True, progress=False).folder)
        yield


def rate_hz(servers: str, max_batch: int, n: int, with_models: bool) -> float:
    """Messages answered and committed a second, once they flow; all of them wait on the topic beforehand."""
    number = next(_numbers)
    sentences, producer = read("topic").texts, Producer({"bootstrap.servers": servers})
    for k in range(n):
        producer.produce(f"in-{number}", json.dumps({"id": k, "text": sentences[k % len(sentences)]}), str(k))
        producer.poll(0)
    producer.flush()
    consumer = TextConsumer(servers, f"in-{number}", f"out-{number}", f"group-{number}", max_batch=max_batch)
    if not with_models:
        consumer.replier.predict = {"topic": _nothing, "sentiment": _nothing}
    with consumer:
        while not (seen := consumer.counts["answered"]):
            sleep(0.001)
        begun = perf_counter()
        while consumer.counts["answered"] < n:
            sleep(0.001)
        return (n - seen) / (perf_counter() - begun)


def _nothing(texts: Sequence[str]) -> list[dict[str, Any]]:
    return [{}] * len(texts)


def main(rounds: int = 3) -> list[str]:
    print(f"kafka: {rounds} rounds in turn; librdkafka's mock broker in this process, all messages there beforehand")
    host = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    servers = ",".join(f"{broker.host}:{broker.port}" for broker in host.list_topics(timeout=10).brokers.values())
    table = Table()
    with models():
        for said, with_models, n in (("no model", False, 40_000), ("topic and sentiment", True, 20_000)):
            found: dict[str, list[float]] = {arm: [] for arm in ARMS}
            for _ in range(rounds):
                for arm, max_batch in ARMS.items():
                    found[arm].append(rate_hz(servers, max_batch, n if max_batch > 1 else n // 10, with_models))
            batched, single = (float(np.median(found[arm])) for arm in ARMS)
            table.row(f"{said}, {BATCH} at a time", batched, "1/s")
            table.row(f"{said}, one at a time", single, "1/s")
            ratio = float(np.median(np.divide(*found.values())))
            limit = None if with_models else 3.0  # with models it is they that take the time
            table.row(f"{said}: batches over single messages", ratio, "", limit, at_least=True)
    return table.missed


if __name__ == "__main__":
    raise SystemExit(bool(main()))
