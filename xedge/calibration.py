"""What the arrangement itself costs: an echo gives the noise floor, the ceiling and a check of every link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from xedge.broker import Broker
from xedge.echo import EchoService
from xedge.exceptions import MeasurementError
from xedge.network import Link
from xedge.sender import Flight, Sender

if TYPE_CHECKING:
    from xedge.scenario import Scenario

DEVICE = "xedge-echo"
PAYLOAD_BYTES = 500
FLOOR_REQUESTS, CEILING_REQUESTS, CEILING_WINDOW = 1000, 4000, 128
LINK_REQUESTS, LINK_RATE_HZ = 400, 400.0


def noise_floor(broker: Broker, sender: Sender, scenario: Scenario, due_ns: NDArray[np.int64]) -> dict[str, Any]:
    """Measure an echo behind the same broker, loop and sender.

    Args:
        broker: the running broker.
        sender: the running sender.
        scenario: says prefix, quality of service and time-out.
        due_ns: the schedule whose first `FLOOR_REQUESTS` are echoed.

    Returns:
        p50_ms, p95_ms and p99_ms of the latency from the due time, n, and ceiling_hz: the rate at which
        `CEILING_REQUESTS` came back with never more than `CEILING_WINDOW` on their way.

    """
    with _echo(broker, scenario) as echo:
        latency_ms, _ = _latency_ms(echo, sender, scenario, due_ns[:FLOOR_REQUESTS])
        _, ceiling_hz = _latency_ms(echo, sender, scenario, np.zeros(CEILING_REQUESTS, np.int64), window=CEILING_WINDOW)
    return quantiles_ms(latency_ms) | {"n": len(latency_ms), "ceiling_hz": round(ceiling_hz)}


def check_links(broker: Broker, sender: Sender, scenario: Scenario) -> dict[str, Any]:
    """For every placement behind links: the added delay asked for and the added delay an echo measured.

    Returns:
        {placement: {"requested_ms": {p50_ms, p95_ms, p99_ms}, "measured_ms": the same, "n": echoes}}; measured is
        the echo's latency behind the links less the median of an echo without links.

    """
    found: dict[str, Any] = {}
    due_ns = np.round(np.arange(LINK_REQUESTS) / LINK_RATE_HZ * 1e9).astype(np.int64)
    bare_ms: float | None = None
    for name, placement in scenario.placements.items():
        up, down = placement.links
        if up.is_free and down.is_free:
            continue
        if bare_ms is None:
            with _echo(broker, scenario) as echo:
                bare_ms = float(np.median(_latency_ms(echo, sender, scenario, due_ns)[0]))
        with _echo(broker, scenario, uplink=up, downlink=down) as echo:
            added_ms = _latency_ms(echo, sender, scenario, due_ns)[0] - bare_ms
        found[name] = {
            "requested_ms": _requested_ms(up, down, due_ns),
            "measured_ms": quantiles_ms(added_ms),
            "n": len(added_ms),
        }
    return found


def quantiles_ms(values_ms: NDArray[Any]) -> dict[str, float]:
    """Return the plain p50, p95 and p99 (inverse empirical CDF), rounded to microseconds."""
    p50, p95, p99 = np.quantile(values_ms, [0.5, 0.95, 0.99], method="inverted_cdf")
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3), "p99_ms": round(float(p99), 3)}


def _requested_ms(up: Link, down: Link, due_ns: NDArray[np.int64]) -> dict[str, float]:
    """Quantiles of what both links add to these very messages, by arithmetic; loss apart."""
    drawn: list[float] = []
    for seed in range(20):
        first, second = (
            msgspec.structs.replace(link, loss=0.0).channel(2 * seed + k) for k, link in enumerate((up, down))
        )
        for due in due_ns.tolist():
            crossed = second.release_ns(first.release_ns(due, PAYLOAD_BYTES) or due, PAYLOAD_BYTES) or due
            drawn.append((crossed - due) / 1e6)
    return quantiles_ms(np.array(drawn))


def _echo(broker: Broker, scenario: Scenario, **links: Link) -> EchoService:
    prefix, qos = scenario.topic_prefix, scenario.qos
    return EchoService(DEVICE, broker.host, broker.port, topic_prefix=prefix, qos=qos, **links)


def _latency_ms(
    echo: EchoService, sender: Sender, scenario: Scenario, due_ns: NDArray[np.int64], window: int = 0
) -> tuple[NDArray[np.float64], float]:
    """Latency from the due time of every echo that came back, and the rate at which they came."""
    payloads = [b"%08d" % number + b"x" * (PAYLOAD_BYTES - 8) for number in range(len(due_ns))]
    log = sender.fly(
        Flight(
            echo.broker_host, echo.broker_port, scenario.topic_prefix, DEVICE, due_ns.tobytes(), payloads,
            scenario.timeout_s, scenario.qos, window,
        )
    )  # fmt: skip
    if not log.replies:
        raise MeasurementError(f"the echo behind {echo.broker_host}:{echo.broker_port} answered nothing")
    numbers = np.array([int(payload[:8]) for _, _, payload in log.replies])
    received_ns = np.array([received for received, _, _ in log.replies]) - log.start_ns
    return (received_ns - due_ns[numbers]) / 1e6, len(numbers) / received_ns[-1] * 1e9
