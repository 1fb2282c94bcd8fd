"""What requests contain: shapes, seeds, replay, and refusals that name the file."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from xedge import Edge, Poisson, Scenario
from xedge.core.exceptions import ConfigurationError
from xedge.scenario import vibration
from xedge.scenario.replay import ArrayReplay, CsvReplay, ParquetReplay, Rows
from xedge.scenario.sources import POOL, InputSpec, Noise, Texts, Vibration, matching


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        (Vibration(), (32,)),
        (Vibration(), (1024,)),
        (Vibration(), (1, 1024)),
        (Vibration(), (4, 8)),
        (Noise(), (3,)),
        (Noise(), (2, 3, 4)),
        (Noise(), ()),
    ],
)
def test_inputs_have_the_model_s_shape_and_come_from_the_seed(source, shape):
    first, again, other = (source.inputs(6, shape, seed) for seed in (1, 1, 2))
    assert first.shape == (6, *shape)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert not np.isin(first, other).any()


@pytest.mark.parametrize("source", [Vibration(), Noise()])
@pytest.mark.parametrize("n", [0, 1])
def test_inputs_of_a_schedule_of_none_or_one(source, n):
    assert source.inputs(n, (32,), 1).shape == (n, 32)


def test_inputs_of_a_long_schedule_are_drawn_from_a_pool():
    inputs = Noise().inputs(4 * POOL, (2,), 3)
    assert inputs.shape == (4 * POOL, 2)
    _distinct, counts = np.unique(inputs, axis=0, return_counts=True)
    assert 0.95 * POOL < len(counts) <= POOL  # all but exp(-4) of them
    assert counts.max() < 20


def test_inputs_up_to_the_pool_are_all_distinct():
    assert len(np.unique(Noise().inputs(POOL, (2,), 3), axis=0)) == POOL


def test_noise_is_standard_normal():
    assert stats.kstest(Noise().inputs(500, (4,), 8).ravel(), "norm").pvalue > 0.01


def test_vibration_gives_the_generator_s_windows_and_their_features():
    windows = Vibration().inputs(5, (vibration.WINDOW_SAMPLES,), 4)
    features = Vibration().inputs(5, (len(vibration.FEATURE_NAMES),), 4)
    np.testing.assert_allclose(features, vibration.features(windows), rtol=1e-6)
    np.testing.assert_array_equal(Vibration().inputs(5, (1, vibration.WINDOW_SAMPLES), 4)[:, 0], windows)


@pytest.mark.parametrize("shape", [(5,), (33,), (1024, 2), ()])
def test_vibration_refuses_a_model_of_another_shape(shape):
    with pytest.raises(ConfigurationError, match=r"32 features or windows of 1024 samples, .*source='your.csv'"):
        Vibration().inputs(3, shape, 1)


def csv(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


NUMBERS = "a,b,c\n1,2,3\n4,5,6\n7,8,9\n"


@pytest.mark.parametrize(
    ("columns", "n", "shape", "expected"),
    [
        (None, 2, (3,), [[1, 2, 3], [4, 5, 6]]),
        (None, 5, (3,), [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3], [4, 5, 6]]),
        (None, 1, (3, 1), [[[1], [2], [3]]]),
        (["c", "a"], 2, (2,), [[3, 1], [6, 4]]),
        (["b"], 4, (1,), [[2], [5], [8], [2]]),
        (["b"], 4, (), [2, 5, 8, 2]),
        (None, 0, (3,), np.zeros((0, 3))),
    ],
)
@pytest.mark.parametrize("seed", [0, 9])
def test_csv_replay_gives_the_rows_in_order_over_and_over(tmp_path, columns, n, shape, expected, seed):
    inputs = CsvReplay(path=csv(tmp_path, NUMBERS), columns=columns).inputs(n, shape, seed)
    np.testing.assert_array_equal(inputs, expected)


@pytest.mark.parametrize(
    ("text", "columns", "shape", "says"),
    [
        (NUMBERS, None, (2,), "3 rows of 3 values; the model takes"),
        (NUMBERS, ["a", "x", "y"], (3,), "no column x, y"),
        ("a,b\n1,2\n3,oops\n", None, (2,), "not all values are numbers"),
        ("a,b\n1,2\n3,\n", None, (2,), "data row 2 holds a missing"),
        ("a,b\ninf,2\n", None, (2,), "data row 1 holds a missing or infinite"),
        ("a,b\n", None, (2,), "0 rows"),
        ("", None, (2,), "rows.csv"),
        ("1,2,3\n4,5,6\n", None, (2,), "2 rows of 3 values.*columns are 0, 1, 2: leave out what is no input"),
        ("noon,1.5\nlate,2\n", None, (2,), "first line holds words and numbers.*header=True"),
        ('a,b\n1,2\n1,2,3,"4\n', None, (2,), "rows.csv"),
    ],
    ids=["shape", "columns", "words", "missing", "infinite", "no rows", "empty", "headerless", "mixed", "not CSV"],
)
def test_csv_replay_refuses_what_is_no_table_for_the_model(tmp_path, text, columns, shape, says):
    path = csv(tmp_path, text)
    with pytest.raises(ConfigurationError, match=says) as caught:
        CsvReplay(path=path, columns=columns).inputs(2, shape, 0)
    assert path in str(caught.value)


def test_csv_replay_of_no_file_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"cannot read none\.csv") as caught:
        CsvReplay(path="none.csv").inputs(1, (1,), 0)
    assert str(tmp_path) in str(caught.value)


def test_csv_replay_ignores_columns_that_were_not_asked_for(tmp_path):
    inputs = CsvReplay(path=csv(tmp_path, "t,x\nnoon,1\n,2\n"), columns=["x"]).inputs(2, (1,), 0)
    assert inputs.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("1,2\n3,4\n", {}, [[1, 2], [3, 4]]),
        ("1.5,-2e3\n", {}, [[1.5, -2000]]),
        ("0,1\n3,4\n", {}, [[3, 4]]),  # the names that pandas gives
        ("0,1\n3,4\n", {"header": False}, [[0, 1], [3, 4]]),
        ("5,6\n3,4\n", {"header": True}, [[3, 4]]),
        ("label,0,1\n7,3,4\n", {"without": ["label"]}, [[3, 4]]),
        ("x;y\n1,5;2\n", {}, [[1.5, 2]]),
        ("1,5;2,25\n3;4\n", {}, [[1.5, 2.25], [3, 4]]),
        ("1.5\t2.5\n", {}, [[1.5, 2.5]]),
        ("\ufeffx,y\n1,2\n", {}, [[1, 2]]),
        ("9,1,2\n8,3,4\n", {"columns": ["1", "2"]}, [[1, 2], [3, 4]]),
    ],
)
def test_csv_replay_loses_no_row_with_or_without_names(tmp_path, text, options, expected):
    inputs = CsvReplay(path=csv(tmp_path, text), **options).inputs(len(expected), (2,), 0)
    assert inputs.tolist() == expected


def test_array_replay_reads_npy_and_npz(tmp_path):
    windows = np.arange(24).reshape(4, 2, 3)
    np.save(tmp_path / "w.npy", windows)
    np.savez(tmp_path / "one.npz", windows=windows)
    np.savez(tmp_path / "two.npz", windows=windows, labels=np.arange(4))
    for source in (
        ArrayReplay(path=str(tmp_path / "w.npy")),
        ArrayReplay(path=str(tmp_path / "one.npz")),
        ArrayReplay(path=str(tmp_path / "two.npz"), array="windows"),
    ):
        assert source.inputs(5, (2, 3), 0).tolist() == [*windows.tolist(), windows[0].tolist()]
        assert source.inputs(1, (6,), 0).tolist() == [list(range(6))]
    with pytest.raises(ConfigurationError, match=r"holds the arrays windows, labels: name one, as .*two\.npz#windows"):
        ArrayReplay(path=str(tmp_path / "two.npz")).inputs(1, (6,), 0)
    with pytest.raises(ConfigurationError, match=r"4 rows of shape \[2, 3\]; the model takes \[5\]"):
        ArrayReplay(path=str(tmp_path / "w.npy")).inputs(1, (5,), 0)
    (tmp_path / "w.npy").write_bytes(b"no array")
    with pytest.raises(ConfigurationError, match=r"cannot read .*w\.npy as arrays"):
        ArrayReplay(path=str(tmp_path / "w.npy")).inputs(1, (6,), 0)


def test_array_replay_runs_nothing_that_a_file_holds(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{1: 2}], object), allow_pickle=True)
    with pytest.raises(ConfigurationError, match="allow_pickle"):
        ArrayReplay(path=str(tmp_path / "o.npy")).inputs(1, (1,), 0)


def test_parquet_replay(tmp_path):
    pd.DataFrame({"label": ["a", "b"], "x": [1.0, 2.0], "y": [3, 4]}).to_parquet(tmp_path / "r.parquet")
    source = ParquetReplay(path=str(tmp_path / "r.parquet"), without=["label"])
    assert source.inputs(3, (2,), 0).tolist() == [[1, 3], [2, 4], [1, 3]]
    with pytest.raises(ConfigurationError, match="not all values are numbers"):
        ParquetReplay(path=str(tmp_path / "r.parquet")).inputs(1, (3,), 0)


@pytest.mark.parametrize(("shape", "expected"), [((-1,), (6,)), ((-1, 2), (3, 2)), ((2, -1), (2, 3)), ((3, 2), (3, 2))])
def test_replay_fills_an_axis_of_any_length(shape, expected):
    assert Rows.of(np.zeros((4, 6))).inputs(3, shape, 0).shape == (3, *expected)
    assert Rows.of(np.zeros((4, 3, 5, 7))).inputs(2, (3, -1, -1), 0).shape == (2, 3, 5, 7)


@pytest.mark.parametrize("shape", [(-1, 4), (-1, -1), (7,)])
def test_replay_refuses_what_does_not_fill_it(shape):
    with pytest.raises(ConfigurationError, match="source has 4 rows of 6 values; the model takes"):
        Rows.of(np.zeros((4, 6))).inputs(3, shape, 0)


def test_noise_for_a_model_of_any_length_needs_one():
    with pytest.raises(ConfigurationError, match=r"-1 is any length: say one, as xedge\.Noise\(shape=\[3, 1\]\)"):
        Noise().inputs(2, (3, -1), 0)
    assert Noise(shape=[3, 8]).inputs(2, (3, -1), 0).shape == (2, 3, 8)


def scenario_with(source):
    workload = Poisson(rate_hz=10, duration_s=1)
    return Scenario(model="m", workload=workload, placements={"edge": Edge()}, source=source)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", None),
        ("noise", Noise()),
        ("vibration", Vibration()),
        ("a/b.csv", CsvReplay(path="a/b.csv")),
        ("b.csv#x,y", CsvReplay(path="b.csv", columns=["x", "y"])),
        ("b.csv#-label", CsvReplay(path="b.csv", without=["label"])),
        ("b.parquet", ParquetReplay(path="b.parquet")),
        ("b.npz#windows", ArrayReplay(path="b.npz", array="windows")),
        ({"kind": "csv", "path": "b.csv"}, CsvReplay(path="b.csv")),
    ],
)
def test_scenario_takes_a_source_as_people_name_it(given, expected):
    assert scenario_with(given).source == expected


def test_scenario_reads_a_path_as_source_from_yaml(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(scenario_with(None).to_yaml() + "source: b.csv\n", "utf-8")
    assert Scenario.from_yaml(file).source == CsvReplay(path="b.csv")


def test_source_that_is_neither_lists_the_choices():
    with pytest.raises(
        ConfigurationError, match=r"source 'nois': give vibration, noise or texts, a file .*mean noise\?"
    ):
        scenario_with("nois")


@pytest.mark.parametrize("given", [np.arange(6.0).reshape(2, 3), pd.DataFrame(np.arange(6.0).reshape(2, 3))])
def test_scenario_takes_arrays_and_tables_and_says_in_files_what_they_were(given):
    asked = scenario_with(given)
    assert asked.source.inputs(3, (3,), 0).tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]
    again = Scenario.from_dict(asked.as_dict())
    assert again == asked == scenario_with(given)
    assert asked != scenario_with(np.ones((2, 3)))
    with pytest.raises(ConfigurationError, match=r"inputs of shape \[2, 3\] were held in memory.*give the array again"):
        again.source.inputs(1, (3,), 0)


def test_source_in_memory_refuses_what_holds_no_numbers():
    with pytest.raises(ConfigurationError, match="column label does not hold numbers"):
        scenario_with(pd.DataFrame({"label": ["a"], "x": [1.0]}))
    with pytest.raises(ConfigurationError, match="input 1 holds a missing or infinite value"):
        scenario_with(np.array([[1.0], [np.nan]]))


def test_texts_come_from_a_list_a_column_or_a_csv_named_by_its_path(tmp_path):
    text = InputSpec((-1,), "int32", "text")
    assert scenario_with(["one", "two"]).source.inputs(3, (-1,), 0) == ["one", "two", "one"]
    assert matching(scenario_with(pd.Series(["one"])).source, text).makes == "text"
    path = csv(tmp_path, "text\none\n")
    assert matching(scenario_with(path).source, text) == Texts(path=path)


def test_files_are_seen_from_the_project_too(tmp_path, monkeypatch):
    csv(tmp_path, NUMBERS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    assert CsvReplay(path="rows.csv").inputs(1, (3,), 0).tolist() == [[1, 2, 3]]
