"""Topic and sentiment of a text column in Spark: the driver resolves the version, each Python worker loads it once."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
import weakref
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xedge.core.exceptions import ConfigurationError
from xedge.core.extras import needed
from xedge.core.files import file_sha256
from xedge.text.labels import SENTIMENT_LABELS
from xedge.text.model import CARD, FILES, TextModel, load_version
from xedge.text.registry.registry import Registry
from xedge.text.registry.versions import configured_folder

if TYPE_CHECKING:
    import pandas as pd
    from pyspark import SparkContext
    from pyspark.sql import SparkSession
    from pyspark.sql._typing import UserDefinedFunctionLike


TYPES = {
    "topic": "topic string, confidence double, model_version string",
    "sentiment": "".join(f"{label} double, " for label in SENTIMENT_LABELS) + "model_version string",
}

_sent: weakref.WeakKeyDictionary[SparkContext, set[str]] = weakref.WeakKeyDictionary()


def local_session(cores: int = 2, host: str = "127.0.0.1") -> SparkSession:
    """Return the running Spark session, or start one on this machine that logs errors only.

    Its Python workers run this interpreter: `PYSPARK_PYTHON` is set, unless it is set already. It has no user
    interface, and its ports, which ask nobody who they are, listen on `host` only.

    Args:
        cores: tasks that run at the same time, each with a Python worker of its own.
        host: the address that the driver listens on; another than loopback lets other machines connect.

    Raises:
        ConfigurationError: Spark did not start, as without Java.
    """
    with needed("cluster", "Spark"):
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(f"local[{cores}]").appName("xedge")
    builder = builder.config("spark.ui.enabled", False).config("spark.ui.showConsoleProgress", False)
    builder = builder.config("spark.driver.bindAddress", host).config("spark.driver.host", host)
    try:
        session = builder.getOrCreate()
    except PySparkRuntimeError as exc:
        raise ConfigurationError(f"Spark did not start; it needs Java 17 or newer (JAVA_HOME): {exc}") from exc
    session.sparkContext.setLogLevel("ERROR")
    return session


def topic_udf(spark: SparkSession | None = None, version: str | int | None = None) -> UserDefinedFunctionLike:
    """Return a function of a text column that gives struct(topic, confidence, model_version) of the likeliest topic.

    All rows are answered by one version: that in production now, or `version`. Its folder goes to the executors as
    an archive, so they need neither the registry nor a shared disk, but Python with `xedge[edge]`, pandas and pyarrow.
    A null text gives null in every field; a text without a letter or digit a null topic, with the confidence that
    every topic has alike.

    Args:
        spark: the session to use; by default the active one.
        version: a registered version instead of that in production.

    Raises:
        ConfigurationError: there is no Spark session.
        RegistryError: the registry cannot say which version, or has no such.
        ModelError: the version's files are damaged.
    """
    return _udf("topic", spark, version)


def sentiment_udf(spark: SparkSession | None = None, version: str | int | None = None) -> UserDefinedFunctionLike:
    """Return a function of a text column like `topic_udf`'s, to struct(positive, neutral, negative, model_version)."""
    return _udf("sentiment", spark, version)


def _udf(task: str, spark: SparkSession | None, version: str | int | None) -> UserDefinedFunctionLike:
    with needed("cluster", "Spark"):
        import pandas as pd
        from pyspark.sql import SparkSession
        from pyspark.sql.pandas.functions import pandas_udf
    session = spark or SparkSession.getActiveSession()
    if session is None:
        words = "there is no Spark session: start one, as with xedge.text.callers.spark.local_session()"
        raise ConfigurationError(words)
    chosen = _resolve(task, version)
    archive, number = _send(session.sparkContext, chosen), chosen.version

    def answer(batches):  # type: ignore[no-untyped-def]  # Spark reads the types that are set below
        model = _loaded(archive, number)
        for texts in batches:
            yield _answered(model, texts)

    answer.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    answer.__name__ = f"xedge_{task}"  # what a plan calls it
    with warnings.catch_warnings():
        # pyspark 4.3 says this of every pandas 3; what is used of it here, tests/text/test_text_spark.py tries.
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        udf: UserDefinedFunctionLike = pandas_udf(answer, TYPES[task])  # type: ignore[call-overload]
    return udf


def _resolve(task: str, version: str | int | None) -> TextModel:
    """Return the version to use, loaded on the driver too: that checks it before any task begins."""
    if version is None and (folder := configured_folder(task)):
        return load_version(folder, task, folder.name)
    resolved = Registry().resolve(task, version=version)
    return load_version(resolved.folder, task, resolved.version)


def _send(context: SparkContext, model: TextModel) -> str:
    """Have Spark unpack the folder beside every executor, once an application; return the name it has there."""
    name = f"xedge-{model.task}-{file_sha256(model.folder / CARD)[:16]}"
    sent = _sent.setdefault(context, set())
    if name not in sent:
        # Executors that come later fetch it too, so it stays as long as the application.
        path = Path(tempfile.mkdtemp(prefix="xedge-spark-")) / f"{name}.zip"
        weakref.finalize(context, shutil.rmtree, path.parent, ignore_errors=True)
        with zipfile.ZipFile(path, "w") as archive:
            for file in FILES:
                archive.write(model.folder / file, file)
        context.addArchive(f"{path}#{name}")
        sent.add(name)
    return name


@lru_cache(maxsize=4)
def _loaded(archive: str, version: str) -> TextModel:
    """Load a version in this Python worker, which answers many tasks with it."""
    from pyspark import SparkFiles

    return TextModel.load(SparkFiles.get(archive), version)


def _answered(model: TextModel, texts: pd.Series) -> pd.DataFrame:
    """Return one row a text; where it is null (which arrives as None or NaN), so is every field."""
    import pandas as pd

    filled = np.flatnonzero(texts.notna())
    strings = texts.iloc[filled].tolist()
    wrong = next((text for text in strings if not isinstance(text, str)), None)
    if wrong is not None:
        raise ConfigurationError(f"the column holds {type(wrong).__name__}, as {wrong!r:.60}: cast it to string")
    if model.task == "topic":
        answers = _topics(model, strings)
    else:
        probabilities = model.probabilities(strings).astype(np.float64)
        answers = {label: probabilities[:, model.labels.index(label)] for label in SENTIMENT_LABELS}
    answers["model_version"] = [model.version] * len(strings)
    # As objects: pandas 3 keeps text in pieces that pyspark 4.3 cannot hand to Arrow.
    columns = {name: pd.Series(values, filled, dtype=object) for name, values in answers.items()}
    return pd.DataFrame(columns, index=range(len(texts)))


def _topics(model: TextModel, texts: list[str]) -> dict[str, Any]:
    """Return the likeliest topic of each text; of one that says nothing, whose topics are all as likely, None."""
    probabilities = model.probabilities(texts)
    best, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1, initial=0.0)
    says_nothing = confidence - probabilities.min(axis=1, initial=1.0) < 1e-6
    topics = [None if silent else model.labels[place] for place, silent in zip(best, says_nothing, strict=True)]
    return {"topic": topics, "confidence": confidence.astype(np.float64)}
