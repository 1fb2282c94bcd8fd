"""Topic and sentiment in Spark on this machine: two workers, one load each, nulls, other versions, wrong columns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from snippets import snippets

from xedge.core.exceptions import ConfigurationError, ModelError, RegistryError
from xedge.text import SENTIMENT_LABELS, TOPICS, predict_sentiments, predict_topics
from xedge.text.callers import spark as text_spark
from xedge.text.callers.spark import local_session, sentiment_udf, topic_udf
from xedge.text.model import MODEL, TextModel
from xedge.text.registry.registry import Registry

SENTENCES = [
    "The striker scored twice and the team won the cup final.",
    "The central bank raised interest rates by a quarter point.",
    "The doctors tested a new vaccine in the hospital.",
    "",
    "¿Dónde está la biblioteca?",
    "word " * 5000,
]
CORES, TASKS, N = 2, 12, 6000
#: pyspark 4.3 gives it wherever it meets pandas 3, also in code that is not ours.
PANDAS_3 = "ignore:PySpark does not yet fully support pandas:FutureWarning"
JAVA = bool(os.environ.get("JAVA_HOME")) or shutil.which("java") is not None
pytestmark = [
    pytest.mark.skipif(not JAVA, reason="Spark needs Java 17: install default-jre-headless"),
    pytest.mark.filterwarnings(PANDAS_3),
]


@pytest.fixture(scope="module")
def session(text_registry: Registry) -> Iterator[Any]:
    """One Spark session with two workers for all tests of this module; quiet."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        started = local_session(CORES)
        yield started
        started.stop()


def texts_of(session: Any, texts: list[str | None], tasks: int = 1) -> Any:
    rows = [(place, text) for place, text in enumerate(texts)]
    return session.createDataFrame(rows, "place long, text string").repartition(tasks)


def loads_by_worker(session: Any) -> dict[int, int]:
    """How many models each Python worker has loaded, asked of the workers themselves."""
    from pyspark.sql.pandas.functions import pandas_udf

    def ask(batches):
        from xedge.text.callers.spark import _loaded

        for batch in batches:
            yield pd.DataFrame({"pid": os.getpid(), "loads": _loaded.cache_info().misses}, index=range(len(batch)))

    ask.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.DataFrame]}
    asked = (
        session.range(200 * TASKS).repartition(TASKS).select(pandas_udf(ask, "pid long, loads long")("id").alias("w"))
    )
    return {row.w.pid: row.w.loads for row in asked.distinct().collect()}


def test_every_worker_loads_once_for_all_its_tasks(session: Any) -> None:
    from pyspark.sql.functions import spark_partition_id

    sentences = SENTENCES[:5]
    before = sum(loads_by_worker(session).values())
    frame = texts_of(session, [sentences[place % len(sentences)] for place in range(N)], TASKS)
    rows = frame.select(
        "place", spark_partition_id().alias("task"), topic_udf(session)("text").alias("answer")
    ).collect()
    assert len({row.task for row in rows}) == TASKS
    assert len(rows) == N

    loads = loads_by_worker(session)
    assert os.getpid() not in loads
    assert 1 <= sum(loads.values()) - before <= len(loads) <= CORES

    expected = predict_topics(sentences, top_k=1)
    for row in rows:
        text, [likeliest] = sentences[row.place % len(sentences)], expected[row.place % len(sentences)]["predictions"]
        assert row.answer.confidence == pytest.approx(likeliest["confidence"], abs=1e-5)
        assert row.answer.topic == (likeliest["topic"] if text else None)
        assert row.answer.model_version == expected[0]["model_version"]


def test_sentiment_is_what_the_function_says(session: Any) -> None:
    rows = texts_of(session, SENTENCES).select("place", sentiment_udf()("text").alias("answer")).collect()
    expected = predict_sentiments(SENTENCES)
    assert sorted(row.place for row in rows) == list(range(len(SENTENCES)))
    for row in rows:
        answer = row.answer.asDict()
        assert answer.pop("model_version") == expected[row.place]["model_version"]
        assert answer == pytest.approx({label: expected[row.place][label] for label in SENTIMENT_LABELS}, abs=1e-5)
        assert sum(answer.values()) == pytest.approx(1, abs=1e-5)


def test_null_gives_null_in_every_field(session: Any) -> None:
    frame = texts_of(session, [None, SENTENCES[0], None]).coalesce(1)
    answers = frame.select("place", topic_udf()("text").alias("topic"), sentiment_udf()("text").alias("sentiment"))
    rows = {row.place: row for row in answers.collect()}
    for place in (0, 2):
        assert set(rows[place].topic) | set(rows[place].sentiment) == {None}
    assert rows[1].topic.topic == "sports"
    assert None not in set(rows[1].topic) | set(rows[1].sentiment)


@pytest.mark.parametrize("text", ["", " \n", "!!!", "😍😍😍"])
def test_text_without_a_word_has_no_topic(session: Any, text: str) -> None:
    [row] = texts_of(session, [text]).select(topic_udf()("text").alias("topic")).collect()
    assert row.topic.topic is None
    assert row.topic.confidence == pytest.approx(1 / len(TOPICS), abs=1e-6)
    assert row.topic.model_version is not None


@pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="sockets are read from /proc")
def test_session_listens_on_loopback_only(session: Any) -> None:
    texts_of(session, SENTENCES).select(topic_udf()("text")).collect()  # the workers' ports are open by now
    pid = session.sparkContext._jvm.java.lang.ProcessHandle.current().pid()
    own = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    lines = [
        line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()
    ]
    listening = [line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in own]
    assert listening
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.parametrize("column", ["cast(null as string)", "null"])
def test_column_of_nulls_only(session: Any, column: str) -> None:
    rows = session.sql(f"select {column} as text from range(3)").select(topic_udf()("text").alias("topic")).collect()
    assert [set(row.topic) for row in rows] == [{None}] * 3


def test_empty_frame(session: Any) -> None:
    frame = texts_of(session, [SENTENCES[0]]).where("place < 0")
    answered = frame.select(topic_udf()("text").alias("topic"))
    assert answered.collect() == []
    assert answered.schema.simpleString() == "struct<topic:struct<topic:string,confidence:double,model_version:string>>"


def test_column_that_is_no_text_says_so(session: Any) -> None:
    from pyspark.errors import PythonException

    with pytest.raises(PythonException, match=r"the column holds int, as .: cast it to string"):
        session.range(3).select(topic_udf()("id")).collect()


def test_works_in_sql_and_in_conditions(session: Any) -> None:
    session.udf.register("topic_of", topic_udf())
    texts_of(session, SENTENCES[:3]).createOrReplaceTempView("sentences")
    found = session.sql("select place from sentences where topic_of(text).topic = 'sports'").collect()
    assert [row.place for row in found] == [0]


def test_version_asked_for_is_used_while_another_is_in_production(
    session: Any, text_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = text_registry.resolve("topic").folder
    own = Registry(tmp_path / "own")
    old, new = own.register("topic", folder), own.register("topic", folder)
    own.promote("topic", new.version)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.uri)
    frame = texts_of(session, SENTENCES[:1])
    chosen, production = topic_udf(version=int(old.version)), topic_udf()
    own.promote("topic", old.version)  # a function that is made keeps its version
    [row] = frame.select(chosen("text").alias("chosen"), production("text").alias("production")).collect()
    assert (row.chosen.model_version, row.production.model_version) == (old.version, new.version)
    with pytest.raises(RegistryError, match="99"):
        topic_udf(version=99)


def test_folder_named_by_the_environment(
    session: Any, text_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(text_registry.resolve("topic").folder, folder)
    monkeypatch.setenv("XEDGE_TOPIC_MODEL", str(folder))
    [row] = texts_of(session, SENTENCES[:1]).select(topic_udf()("text").alias("topic")).collect()
    assert row.topic.model_version == "mine"
    (folder / MODEL).write_bytes(b"damaged")
    with pytest.raises(ModelError, match=MODEL):
        topic_udf()


def test_workers_use_what_the_driver_sent_not_the_registrys_folder(
    session: Any, text_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    shutil.copytree(text_registry.resolve("sentiment").folder, folder)
    monkeypatch.setenv("XEDGE_SENTIMENT_MODEL", str(folder))
    sentiment = sentiment_udf()
    shutil.rmtree(folder)
    [row] = texts_of(session, SENTENCES[:1]).select(sentiment("text").alias("sentiment")).collect()
    assert row.sentiment.model_version == "gone"


def test_null_and_nan_objects_give_null_rows_in_any_mixture(text_registry: Registry) -> None:
    model = TextModel.load(text_registry.resolve("topic").folder, "5")
    given = pd.Series([None, float("nan"), SENTENCES[0], pd.NA], dtype=object)
    answered = text_spark._answered(model, given)
    assert answered["topic"].tolist()[2] == "sports"
    assert answered.isna().to_numpy().tolist() == [[True] * 3, [True] * 3, [False] * 3, [True] * 3]


def test_example_of_the_page(session: Any) -> None:
    [code] = snippets("python", "Spark")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["spark"] is session
    first, second = names["rows"]
    assert first.topic == "sports"
    assert 0 < first.positive < 1
    assert set(second) == {None}


def test_without_a_session_it_says_what_to_start(text_registry: Registry) -> None:
    code = "from xedge.text.callers.spark import topic_udf; topic_udf()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False)
    assert f"{ConfigurationError.__name__}: there is no Spark session" in done.stderr


def test_without_java_it_says_so(tmp_path: Path) -> None:
    code = "from xedge.text.callers.spark import local_session; local_session()"
    bare = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"} | {"PATH": str(tmp_path)}
    for tool in ("bash", "dirname", "env"):  # what Spark's launcher calls before it looks for Java
        (tmp_path / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False, env=bare
    )
    assert f"{ConfigurationError.__name__}: Spark did not start; it needs Java 17" in done.stderr
