"""What hardware a tier stands for: which settings go together."""

from xedge.core.exceptions import ConfigurationError
from xedge.scenario.service_times import ServiceTime


def check_hardware(
    name: str, compute_scale: float, service_time: ServiceTime | None, servers: int, max_batch: int
) -> None:
    """Refuse hardware that cannot be emulated.

    Args:
        name: what the settings are of, for the message.
        compute_scale: inference takes this many times as long, 1 or more.
        service_time: inference takes as long as drawn from this, instead.
        servers: how many batches are in inference at once.
        max_batch: most requests in a batch.

    Raises:
        ConfigurationError: faster than the engine, two service times, servers that nothing emulates, or no batch.
    """
    if compute_scale < 1:
        raise ConfigurationError(f"{name}: compute_scale={compute_scale} is faster than the engine; give 1 or more")
    if service_time is not None and compute_scale != 1:
        raise ConfigurationError(f"{name}: compute_scale and service_time both say how long inference takes; give one")
    if servers < 1 or (servers > 1 and service_time is None and compute_scale == 1):
        raise ConfigurationError(
            f"{name}(servers={servers}): engines side by side are emulated, the model itself computes in one thread; "
            "give 1, or compute_scale or service_time too"
        )
    if max_batch < 1:
        raise ConfigurationError(f"{name}: max_batch={max_batch}; the engine needs at least one request at a time")
