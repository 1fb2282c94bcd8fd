"""The scenario with its verbs: `xedge.Scenario`."""

from pathlib import Path

from xedge.results.measurement import Measurement
from xedge.runs.measured import measure
from xedge.scenario import scenario
from xedge.serving.broker import Broker


class Scenario(scenario.Scenario, frozen=True, kw_only=True):
    """Everything that decides a measurement, as frozen data with verbs; `xedge.scenario.scenario` lists the fields."""

    def measure(
        self,
        replications: int = 5,
        *,
        strict: bool = True,
        progress: bool = True,
        watch: bool | None = None,
        broker: Broker | None = None,
        calibration: Measurement | None = None,
        resume: str | Path | None = None,
    ) -> Measurement:
        """Run every placement `replications` times behind a real broker and return all rows.

        Each trial is written when it has ended, below `reports/unfinished`. If the measurement is interrupted or fails,
        the error's notes say where they are kept; `Measurement.load` reads them, and `resume` takes the rest.

        Args:
            replications: trials a placement, each on fresh seeds that all placements share.
            strict: a sender that could not keep time makes the measurement INVALID; False makes it a doubt.
            progress: show progress in the terminal or the notebook.
            watch: show in it, once a second, the rate, latency and fates that the services tell of themselves; by
                default if XEDGE_WATCH is set. An external service tells what it publishes, `--metrics-interval`.
            broker: one that runs already; by default one is started for the measurement.
            calibration: a measurement taken shortly before behind the same broker and links, whose noise floor and link
                check are taken over instead of being measured again: for one of many points.
            resume: the folder that an interrupted measurement of this scenario, seed and number of replications kept;
                only the trials that are missing are run, and the earlier noise floor and link check are taken over.

        Raises:
            ConfigurationError, ModelError, BrokerError, ServiceError: what the measurement needs is not there.
        """
        return measure(
            self,
            replications,
            strict=strict,
            progress=progress,
            watch=watch,
            broker=broker,
            calibration=calibration,
            resume=resume,
        )
