"""What requests contain: shapes, seeds, replay, and refusals that name the file."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from xedge.core.exceptions import ConfigurationError
from xedge.scenario import vibration
from xedge.scenario.sources import POOL, CsvReplay, Noise, Vibration


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
    with pytest.raises(ConfigurationError, match=r"32 features or windows of 1024 samples, .*CsvReplay or Noise"):
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
        ('a,b\n1,2\n1,2,3,"4\n', None, (2,), "rows.csv"),
    ],
    ids=["shape", "columns", "words", "missing", "infinite", "no rows", "an empty file", "not CSV"],
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
