"""Kafka: librdkafka's mock cluster as the broker; bad messages, a group of several members, members that are killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from helpers import WAIT_S, wait_until
from snippets import snippets

from xedge.core.exceptions import BrokerError, ConfigurationError, ModelError, ServiceError
from xedge.text import SENTIMENT_LABELS, predict_sentiments, predict_topics
from xedge.text.callers.kafka import TextConsumer, settings_of
from xedge.text.registry.registry import Registry

COMMAND = [sys.executable, "-m", "xedge.cli", "serve", "kafka"]
#: How soon the group gives the partitions of a member that is gone to another; Kafka's own least. The mock cluster
#: waits for it even where a member has said that it leaves.
SETTINGS = {"session.timeout.ms": 6000}
PARTITIONS = range(4)  # what the mock cluster gives a topic
_numbers = count(1)


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    """The address of a mock cluster of three brokers, which lives in this process and serves any other."""
    host = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3, "log_level": 0})
    yield ",".join(f"{broker.host}:{broker.port}" for broker in host.list_topics(timeout=WAIT_S).brokers.values())
    host.flush(1)


@pytest.fixture
def topics() -> tuple[str, str, str]:
    """Kafka topics and a group of this test's own."""
    number = next(_numbers)
    return f"in-{number}", f"out-{number}", f"group-{number}"


def produce(servers: str, topic: str, messages: Sequence[tuple[Any, Any]], partition: int | None = None) -> None:
    """Put (key, value) pairs on a topic; values that are dictionaries as JSON."""
    producer = Producer({"bootstrap.servers": servers, "log_level": 0, "message.max.bytes": 3_000_000})
    where = {} if partition is None else {"partition": partition}
    for key, value in messages:
        producer.produce(topic, json.dumps(value) if isinstance(value, dict) else value, key, **where)
    assert producer.flush(WAIT_S) == 0


class Reader:
    """Everything on a Kafka topic from its beginning, read without a group."""

    def __init__(self, servers: str, topic: str) -> None:
        self.messages: list[Message] = []
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "log_level": 0})
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in PARTITIONS])

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._consumer.close()

    def more(self) -> list[Message]:
        """All messages so far."""
        self.messages += [one for one in self._consumer.consume(1000, 0.2) if one.error() is None]
        return self.messages

    def until(self, enough: Callable[[list[Message]], Any], what: str) -> list[Message]:
        wait_until(lambda: enough(self.more()), what)
        return self.messages


def read(servers: str, topic: str, n: int) -> list[tuple[bytes | None, dict[str, Any]]]:
    """The keys and values of a topic that is to have `n` messages, and no more."""
    with Reader(servers, topic) as reader:
        reader.until(lambda messages: len(messages) >= n, f"{n} messages on {topic}")
        messages = reader.more()
    assert len(messages) == n
    return [(one.key(), json.loads(one.value())) for one in messages]


def ids_on(messages: list[Message]) -> Counter[Any]:
    return Counter(json.loads(one.value())["id"] for one in messages)


def committed(servers: str, topic: str, group: str) -> dict[int, int]:
    """The group's offsets by partition, as the cluster has them."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "log_level": 0})
    found = consumer.committed([TopicPartition(topic, partition) for partition in PARTITIONS], WAIT_S)
    consumer.close()
    return {one.partition: max(one.offset, 0) for one in found}


def ends(servers: str, topic: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "ends", "log_level": 0})
    found = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), WAIT_S)[1] for p in PARTITIONS}
    consumer.close()
    return found


def sentence(number: int) -> str:
    return f"The team won match number {number} of the season in the final minute."


def asked(n: int, first: int = 0) -> list[tuple[str, dict[str, Any]]]:
    """Messages with a key that some of them share, and an id of their own."""
    return [(f"key-{number % 10}", {"id": number, "text": sentence(number)}) for number in range(first, first + n)]


def assert_answers(answers: list[tuple[bytes | None, dict[str, Any]]]) -> None:
    """Every answer is what the functions say of its text, under the key of its message."""
    texts = [sentence(answer["id"]) for _, answer in answers]
    for (key, answer), topic, sentiment in zip(answers, predict_topics(texts), predict_sentiments(texts), strict=True):
        assert key == f"key-{answer['id'] % 10}".encode()
        assert answer["topic"]["predictions"] == [
            {"topic": one["topic"], "confidence": pytest.approx(one["confidence"], abs=1e-5)}
            for one in topic["predictions"]
        ]
        assert answer["sentiment"] == {
            name: pytest.approx(value, abs=1e-5) if name in SENTIMENT_LABELS else value
            for name, value in sentiment.items()
        }
        assert set(answer) == {"id", "topic", "sentiment"}


BAD = {
    b"\xff\xfe\x00\x01 binary": "not_decodable",
    b"just words": "not_decodable",
    b"": "not_decodable",
    None: "not_decodable",
    b'{"text": NaN}': "not_decodable",
    b'{"text": "cut of': "not_decodable",
    b'{"text": "\xff"}': "not_decodable",
    b'{"text": "\\ud800"}': "not_decodable",
    b"[" * 100_000: "wrong_type",
    b"{}": "wrong_type",
    b'{"text": null}': "wrong_type",
    b'{"text": 5}': "wrong_type",
    b'{"text": ["a"]}': "wrong_type",
    b'{"text": "a", "id": {"a": 1}}': "wrong_type",
    b'["text"]': "wrong_type",
    b'{"text": "' + b"x" * (1 << 20) + b'"}': "too_large",
}


def test_every_message_is_answered_and_bad_ones_stop_nothing(
    servers: str, topics: tuple[str, str, str], text_registry: Registry
) -> None:
    topic, out, group = topics
    good = asked(600)
    produce(servers, topic, good[:300])
    for number, value in enumerate(BAD):
        produce(servers, topic, [(f"bad-{number}", value), *good[300 + number * 10 : 310 + number * 10]])
    produce(servers, topic, good[300 + len(BAD) * 10 :])
    total = len(good) + len(BAD)
    with TextConsumer(servers, topic, out, group, settings=SETTINGS) as consumer:
        wait_until(lambda: sum(committed(servers, topic, group).values()) == total, "all messages committed")
    answers = read(servers, out, len(good))
    assert sorted(answer["id"] for _, answer in answers) == list(range(len(good)))
    assert_answers(answers)
    for key in {key for key, _ in answers}:  # one key's messages stay in order
        ids = [answer["id"] for one, answer in answers if one == key]
        assert ids == sorted(ids)

    refusals = read(servers, f"{out}-errors", len(BAD))
    assert {key: answer["reason"] for key, answer in refusals} == {
        f"bad-{number}".encode(): reason for number, reason in enumerate(BAD.values())
    }
    assert all(answer["id"].startswith(f"{topic}/") and answer["error"] for _, answer in refusals)
    assert consumer.replier.refused == Counter(BAD.values())
    assert committed(servers, topic, group) == ends(servers, topic)
    assert consumer.counts["batches"] < total / 4
    assert consumer.summary().startswith(f"kafka consumer ended: {total} received in ")
    assert (
        f"{len(good)} answered, refused: 8 not_decodable, 1 too_large, 7 wrong_type; 1 rebalances" in consumer.summary()
    )


def test_one_task_and_no_id(servers: str, topics: tuple[str, str, str], text_registry: Registry) -> None:
    topic, out, group = topics
    produce(servers, topic, [(None, {"text": "", "lang": "en"}), (b"\x00\xff", {"text": "Good!", "id": "a/b"})], 2)
    with TextConsumer(servers, topic, out, group, "sentiment", settings=SETTINGS):
        answers = read(servers, out, 2)
    assert {key: answer["id"] for key, answer in answers} == {None: f"{topic}/2/0", b"\x00\xff": "a/b"}
    assert all(set(answer) == {"id", "sentiment"} for _, answer in answers)


def test_text_on_which_the_model_fails_takes_no_other_with_it(
    servers: str, topics: tuple[str, str, str], text_registry: Registry
) -> None:
    topic, out, group = topics
    produce(servers, topic, [*asked(40), ("poison", {"text": "poison", "id": "p"}), *asked(40, 40)])
    consumer = TextConsumer(servers, topic, out, group, settings=SETTINGS)
    predict = consumer.replier.predict["topic"]

    def failing(texts: Sequence[str]) -> Any:
        if "poison" in texts:
            raise RuntimeError("bad memory")
        return predict(texts)

    consumer.replier.predict["topic"] = failing
    with consumer:
        assert_answers(read(servers, out, 80))
        [(key, refusal)] = read(servers, f"{out}-errors", 1)
    assert (key, refusal["reason"]) == (b"poison", "engine")
    assert "RuntimeError: bad memory" in refusal["error"]


def test_answer_that_is_too_large_for_kafka_becomes_an_error_without_its_key(
    servers: str, topics: tuple[str, str, str], text_registry: Registry
) -> None:
    topic, out, group = topics
    long_key, long_id = "k" * 999_900, {"text": "a", "id": "i" * 1_000_000}
    produce(servers, topic, [(long_key, {"text": "a"}), *asked(1), ("k", long_id), ("k" * 999_990, "not JSON")])
    with TextConsumer(servers, topic, out, group, settings=SETTINGS) as consumer:
        assert_answers(read(servers, out, 1))
        refusals = read(servers, f"{out}-errors", 3)
        wait_until(lambda: sum(committed(servers, topic, group).values()) == 4, "all committed")
    assert sorted((key, answer["reason"]) for key, answer in refusals if key is None) == [
        (None, "not_decodable"), (None, "too_large"), (None, "too_large"),
    ]  # fmt: skip
    assert (consumer.counts["answered"], consumer.replier.refused) == (1, {"too_large": 2, "not_decodable": 1})


def test_model_that_is_lost_is_no_fault_of_a_message(
    servers: str, topics: tuple[str, str, str], text_registry: Registry
) -> None:
    topic, out, group = topics
    produce(servers, topic, asked(5))
    consumer = TextConsumer(servers, topic, out, group, settings=SETTINGS)
    calls = count()

    def lost(texts: Sequence[str]) -> Any:
        if next(calls):  # the first call is the warm-up
            raise ModelError("the engine is gone")
        return []

    consumer.replier.predict["sentiment"] = lost
    consumer.start()
    wait_until(lambda: not consumer.is_running, "the consumer ends")
    with pytest.raises(ServiceError, match="the engine is gone"):
        consumer.stop()
    assert consumer.counts["answered"] == 0
    assert sum(committed(servers, topic, group).values()) == 0
    with TextConsumer(servers, topic, out, group, settings=SETTINGS):
        assert_answers(read(servers, out, 5))


@pytest.mark.long
def test_member_that_leaves_hands_over(servers: str, topics: tuple[str, str, str], text_registry: Registry) -> None:
    topic, out, group = topics
    first, second = (TextConsumer(servers, topic, out, group, max_batch=50, settings=SETTINGS) for _ in range(2))
    produce(servers, topic, asked(10))
    with second, Reader(servers, out) as reader:
        with first:
            wait_until(lambda: first.counts["rebalances"] and second.counts["rebalances"], "both are members")
            before = first.counts["answered"], second.counts["answered"]
            produce(servers, topic, asked(990, 10))
            wait_until(
                lambda: first.counts["answered"] > before[0] and second.counts["answered"] > before[1], "both answer"
            )
        assert not first.is_running
        produce(servers, topic, asked(1000, 1000))
        reader.until(lambda found: len(ids_on(found)) == 2000, "2000 answers")
        wait_until(lambda: committed(servers, topic, group) == ends(servers, topic), "all committed")
        messages = reader.more()
    assert first.counts["answered"] + second.counts["answered"] == len(messages)
    duplicates = len(messages) - 2000
    assert duplicates == 0 or first.counts["failed_commits"] + second.counts["failed_commits"] > 0


class Stalling(TextConsumer):
    """Stands still for ever in its second batch: before it predicts, or once the results are out."""

    def __init__(self, where: str, tell: Any, *arguments: Any, **further: Any) -> None:
        super().__init__(*arguments, **further)
        self.where, self.tell, self.batches = where, tell, []

    def _take(self, consumer: Any) -> Any:
        if messages := super()._take(consumer):
            self.batches.append(len(messages))
            self._stall("predicting")
        return messages

    def _commit(self, consumer: Any) -> None:
        self._stall("answered")
        super()._commit(consumer)

    def _stall(self, where: str) -> None:
        if self.where == where and len(self.batches) == 2:
            self.tell.send(self.batches[1])
            threading.Event().wait()


def stall(where: str, tell: Any, *arguments: Any) -> None:
    """Be a member that will be killed."""
    with Stalling(where, tell, *arguments, max_batch=500, settings=SETTINGS):
        threading.Event().wait()


@contextmanager
def served(servers: str, *arguments: str, level: str = "warning") -> Iterator[subprocess.Popen[str]]:
    """The command in the background, once it says that it is ready; killed in the end if it must be."""
    command = [*COMMAND, "--bootstrap-servers", servers, "--log-level", level, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "ready" in line, process.stderr.read() if process.stderr else ""
            yield process
        finally:
            process.kill()


@pytest.mark.long
@pytest.mark.parametrize("where", ["predicting", "answered"])
def test_member_killed_in_mid_batch_loses_no_message(
    where: str, servers: str, topics: tuple[str, str, str], text_registry: Registry, tmp_path: Path
) -> None:
    topic, out, group = topics
    n = 4000
    produce(servers, topic, asked(n))
    context = multiprocessing.get_context("spawn")
    hear, tell = context.Pipe()
    victim = context.Process(target=stall, args=(where, tell, servers, topic, out, group))
    victim.start()
    try:
        assert hear.poll(WAIT_S), "the member did not get to its second batch"
        in_work = hear.recv()
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
    finally:
        victim.kill()
        victim.join()
    done = sum(committed(servers, topic, group).values())
    assert 0 < done < n - in_work

    (tmp_path / "kafka.properties").write_text("# for this test\nsession.timeout.ms = 6000\n")
    options = ["--topic", topic, "--out", out, "--group", group, "--config", str(tmp_path / "kafka.properties")]
    with served(servers, *options) as successor, Reader(servers, out) as reader:
        reader.until(lambda messages: len(ids_on(messages)) == n, f"all {n} messages answered")
        wait_until(lambda: committed(servers, topic, group) == ends(servers, topic), "all committed")
        successor.send_signal(signal.SIGTERM)
        said, errors = successor.communicate(timeout=WAIT_S)
        messages = reader.more()
    assert successor.returncode == 0, errors
    assert f"kafka consumer ended: {n - done} received" in said
    found = ids_on(messages)
    assert set(found) == set(range(n))  # none is missing
    duplicates = len(messages) - n
    assert duplicates == (in_work if where == "answered" else 0)
    assert_answers([(one.key(), json.loads(one.value())) for one in messages])


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--log-level", "error", *arguments], capture_output=True, text=True, timeout=180, check=False
    )


def assert_one_line(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert (done.returncode, done.stdout) == (status, ""), done
    [line] = done.stderr.splitlines()
    assert line.startswith("xedge: ")
    assert all(word in line for word in words), line


def test_no_broker_is_one_line_and_status_1(text_registry: Registry) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        where = ["--bootstrap-servers", address, "--topic", "a", "--out", "b", "--connect-timeout", "1"]
        assert_one_line(call(*where), 1, f"no Kafka broker answers at {address} within 1 s", "is one running there?")
        with pytest.raises(BrokerError, match="no Kafka broker answers"):
            TextConsumer(address, "a", "b", "g", connect_timeout_s=1).start()


def test_wrong_settings_are_one_line_and_status_2(servers: str, text_registry: Registry, tmp_path: Path) -> None:
    where = ["--bootstrap-servers", servers, "--topic", "a", "--out", "b"]
    config = tmp_path / "kafka.properties"
    config.write_text("no.such.setting=1\n")
    assert_one_line(call(*where, "--config", str(config)), 2, "no.such.setting")
    config.write_text("\n# fine\nsecurity.protocol\n")
    assert_one_line(call(*where, "--config", str(config)), 2, "line 3 is not NAME=VALUE")
    assert_one_line(call(*where, "--config", str(tmp_path / "none")), 2, "cannot be read")
    assert_one_line(call(*where[:-1], "a"), 2, "would be read again")
    assert_one_line(call(*where, "--group", ""), 2, "group may not be empty")


@pytest.mark.parametrize(
    "wrong",
    [{"topic": ""}, {"out": "in"}, {"errors": "in"}, {"task": "topics"}, {"max_batch": 0}, {"bootstrap_servers": ""}],
)
def test_wrong_argument(wrong: dict[str, Any]) -> None:
    right = {"bootstrap_servers": "localhost", "topic": "in", "out": "out", "group": "g"}
    with pytest.raises(ConfigurationError):
        TextConsumer(**(right | wrong))


def test_settings_file_keeps_what_follows_the_first_equals_sign(tmp_path: Path) -> None:
    path = tmp_path / "kafka.properties"
    path.write_text("sasl.password = a=b# \n\n#x=y\nlinger.ms=5\n", encoding="utf-8")
    assert settings_of(path) == {"sasl.password": "a=b#", "linger.ms": "5"}


def test_consumer_starts_once(servers: str, topics: tuple[str, str, str], text_registry: Registry) -> None:
    topic, out, group = topics
    consumer = TextConsumer(servers, topic, out, group, settings=SETTINGS)
    with consumer, pytest.raises(ServiceError, match="started before"):
        consumer.start()
    assert not consumer.is_running


def test_example_of_the_page(servers: str, text_registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = snippets("python", "Kafka")
    produce(servers, "texts", asked(3))
    code = code.replace("localhost:9092", servers).replace(
        "...", "wait_until(lambda: consumer.counts['answered'] == 3, '3 answers')"
    )
    exec(code, {"wait_until": wait_until})
    assert re.search(r"kafka consumer ended: 3 received in \d batches, 3 answered", capsys.readouterr().out)
    assert_answers(read(servers, "answers", 3))
