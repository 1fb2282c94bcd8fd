"""A worker process that needs topics: it has its own copy of the model, or asks a service over HTTP or MQTT."""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns, sleep

SPIN_NS = 300_000  # sleep until this long before a request is due, then poll
TIMEOUT_S = 5.0
Predict = Callable[[str], object]


def _copy() -> Predict:
    from xedge.text import predict_topic

    return predict_topic


def _over_http(host: str, port: str) -> Predict:
    import http.client

    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    headers = {"Content-Type": "application/json"}

    def predict(text: str) -> object:
        try:
            connection.request("POST", "/topic", json.dumps({"text": text}), headers)
            return json.loads(connection.getresponse().read())["predictions"]
        except (OSError, http.client.HTTPException, KeyError):
            connection.close()  # the next request opens it again
            raise

    return predict


def _over_mqtt(host: str, port: str, request_topic: str, result_topic: str) -> Predict:
    from xedge.serving.connection import Connection

    answers: dict[int, object] = {}
    device_id, number = result_topic.rpartition("/")[2], 0

    def keep(_topic: str, payload: bytes) -> None:
        answer = json.loads(payload)
        answers[answer["timestamp_us"]] = answer["label"]

    connection = Connection("xedge-worker", host, int(port), [result_topic], keep)
    connection.connect()
    connection.wait_subscribed(TIMEOUT_S)

    def predict(text: str) -> object:
        nonlocal number
        number += 1
        request = {"device_id": device_id, "timestamp_us": number, "text": text}
        connection.publish(request_topic, json.dumps(request), 0)
        connection.flush()
        end_ns = perf_counter_ns() + round(TIMEOUT_S * 1e9)
        while number not in answers:
            if perf_counter_ns() > end_ns:
                raise TimeoutError
            connection.turn(0.5)
        return answers.pop(number)

    return predict


def fly(predict: Predict, start_ns: int, due_ns: list[int], texts: list[str]) -> list[tuple[int, int, int]]:
    """Answer each text when it is due, one at a time; return (seen, begun, answered), ns after the start.

    A text that falls due while another is being answered waits its turn, as in a consumer's queue; it was seen on time.
    `answered` is -1 where there was no answer.
    """
    log, free_ns = [], 0
    for due, text in zip(due_ns, texts, strict=True):
        while (left_ns := start_ns + due - perf_counter_ns()) > 0:
            if left_ns > SPIN_NS:
                sleep((left_ns - SPIN_NS) / 1e9)
        begun_ns = perf_counter_ns() - start_ns
        seen_ns = due if due < free_ns else begun_ns
        answered_ns = -1
        with suppress(Exception):
            predict(text)
            answered_ns = perf_counter_ns() - start_ns
        free_ns = perf_counter_ns() - start_ns
        log.append((seen_ns, begun_ns, answered_ns))
    return log


def main(kind: str, *where: str) -> None:
    """Say ready after a first answer, then fly what each line of standard input says, until it closes."""
    predict = {"copy": _copy, "http": _over_http, "mqtt": _over_mqtt}[kind](*where)  # type: ignore[operator]
    predict("warm-up")
    _say("ready")
    for line in sys.stdin:
        flight = json.loads(line)
        _say(json.dumps(fly(predict, flight["start_ns"], flight["due_ns"], flight["texts"])))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
