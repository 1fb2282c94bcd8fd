"""The truth about inputs: from the generator, a column, an array or a tuple; what a card says makes inputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from xedge import Edge, Scenario, Trace
from xedge.core.exceptions import ConfigurationError
from xedge.scenario import vibration
from xedge.scenario.labels import as_labels
from xedge.scenario.making import making, register_making
from xedge.scenario.replay import ArrayReplay, CsvReplay, Rows, source_of
from xedge.scenario.scenario import Replication
from xedge.scenario.sources import POOL, InputSpec, Noise, Texts, Vibration

FEATURES = InputSpec((32,), "float32", "numbers", "bearing_features")
WINDOWS = InputSpec((1024,), "float32")


def replication(source, n=5):
    scenario = Scenario(
        model="m", workload=Trace(due_s=[k / 100 for k in range(n)]), placements={"edge": Edge()}, source=source
    )
    return scenario, Replication.of(scenario, 0)


def test_labels_of_numbers_words_and_truth_values_are_texts_of_one_form():
    assert as_labels([1, 1.0, True, np.int8(1), "1", "1.0", np.float32(1), " 1 "], "f") == ["1"] * 8
    assert as_labels(["damaged", "0.5", -3], "f") == ["damaged", "0.5", "-3"]


@pytest.mark.parametrize("gap", [None, float("nan"), "", "  ", pd.NA, np.nan])
def test_a_label_that_is_missing_names_its_row(gap):
    with pytest.raises(ConfigurationError, match="f, data row 2: the label is missing"):
        as_labels([1, gap], "f")


def test_a_label_that_is_no_class():
    with pytest.raises(ConfigurationError, match=r"data row 1: the label is 0\.37; give whole numbers or words"):
        as_labels([0.37], "f")


@pytest.mark.parametrize("n", [0, 1, 7, POOL + 50])
def test_the_generator_s_labels_are_those_of_its_windows(n):
    source = Vibration()
    inputs, labels = source.inputs(n, (1024,), 3), source.labels(n, 3)
    assert len(labels) == n
    rng = np.random.default_rng(3)
    signals, truth = vibration.windows(max(min(n, POOL), 1), int(rng.integers(2**31)))
    of = {signal.tobytes(): str(label) for signal, label in zip(signals, truth, strict=True)}
    assert labels == [of[window.tobytes()] for window in inputs]


def test_models_of_other_inputs_get_the_same_windows_and_the_same_truth():
    for source in (None, Vibration()):
        scenario, of = replication(source)
        windows, features = of.inputs(scenario, WINDOWS), of.inputs(scenario, FEATURES)
        np.testing.assert_array_equal(features, vibration.features(windows))
        assert of.labels(scenario, WINDOWS) == of.labels(scenario, FEATURES)


def write_windows(folder, **columns):
    signals, labels = vibration.windows(6, 9)
    file = folder / "windows.csv"
    pd.DataFrame(signals).assign(**{"damaged": labels, **columns}).to_csv(file, index=False)
    return file, pd.read_csv(file)


def test_a_file_of_windows_feeds_a_model_of_features_by_its_card(tmp_path):
    file, table = write_windows(tmp_path)
    scenario, of = replication(f"{file}#label=damaged", n=8)
    windows = table.drop(columns="damaged").to_numpy(np.float32)[[0, 1, 2, 3, 4, 5, 0, 1]]
    np.testing.assert_array_equal(of.inputs(scenario, WINDOWS), windows)
    np.testing.assert_allclose(of.inputs(scenario, FEATURES), vibration.features(windows), rtol=1e-4, atol=1e-4)
    assert of.labels(scenario, FEATURES) == [str(table["damaged"][k % 6]) for k in range(8)]


def test_a_file_of_features_is_taken_as_it_is(tmp_path):
    file = tmp_path / "features.csv"
    pd.DataFrame(np.arange(64.0).reshape(2, 32)).assign(y=["a", "b"]).to_csv(file, index=False)
    scenario, of = replication(f"{file}#label=y", n=2)
    np.testing.assert_array_equal(of.inputs(scenario, FEATURES), np.arange(64).reshape(2, 32))
    assert of.labels(scenario, FEATURES) == ["a", "b"]


def test_a_file_that_fits_neither_the_model_nor_what_makes_its_input(tmp_path):
    file = tmp_path / "narrow.csv"
    file.write_text("a,b\n1,2\n")
    scenario, of = replication(str(file))
    with pytest.raises(ConfigurationError, match=r"2 values; the model takes \[32\].*or windows of \[1024\]"):
        of.inputs(scenario, FEATURES)


def test_a_making_of_one_s_own_and_one_that_is_not_there(tmp_path):
    register_making("first_two", (4,), lambda windows: windows[:, :2])
    scenario, of = replication(np.arange(8.0).reshape(2, 4), n=2)
    assert of.inputs(scenario, InputSpec((2,), "float32", "numbers", "first_two")).tolist() == [[0, 1], [4, 5]]
    with pytest.raises(ConfigurationError, match="did you mean first_two"):
        making("first_tow")


def test_a_label_column_is_no_input_and_stays_so_in_yaml(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a,b,y,t\n1,2,0,9\n3,4,1,9\n")
    source = source_of(f"{file}#-t,label=y")
    assert source == CsvReplay(path=str(file), without=["t"], label="y")
    assert source.inputs(2, (2,), 0).tolist() == [[1, 2], [3, 4]]
    assert source_of(f"{file}#a,label=y").inputs(2, (1,), 0).tolist() == [[1], [3]]
    assert source_of(f"{file}#a").labels(2, 0) is None
    scenario, _ = replication(source)
    assert Scenario.from_dict(scenario.as_dict()).source == source


def test_a_label_column_with_a_gap_or_none_of_that_name(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("a,y\n1,0\n3,\n")
    with pytest.raises(ConfigurationError, match=r"rows\.csv, column y, data row 2: the label is missing"):
        source_of(f"{file}#label=y").labels(2, 0)
    with pytest.raises(ConfigurationError, match=r"has no column z; it has a, y"):
        source_of(f"{file}#label=z").labels(2, 0)


def test_labels_of_arrays_in_a_file_and_in_memory(tmp_path):
    inputs, truth = np.arange(6.0).reshape(3, 2), np.array([0, 1, 1])
    np.savez(tmp_path / "set.npz", x=inputs, y=truth)
    file = source_of(f"{tmp_path / 'set.npz'}#label=y")
    assert file == ArrayReplay(path=str(tmp_path / "set.npz"), label="y")
    held = source_of((inputs, truth))
    for source in (file, held, source_of(f"{tmp_path / 'set.npz'}#x,label=y")):
        assert source.inputs(4, (2,), 0).tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
        assert source.labels(4, 0) == ["0", "1", "1", "0"]
    assert isinstance(held, Rows)
    assert held.labelled
    assert held.sha256 != Rows.of(inputs).sha256
    assert Rows.of(inputs).labels(4, 0) is None
    with pytest.raises(ConfigurationError, match="2 labels for 3 inputs"):
        source_of((inputs, truth[:2]))


def test_labels_of_texts_follow_the_draw_and_rows_without_a_text_are_left_out(tmp_path):
    file = tmp_path / "texts.csv"
    file.write_text("text,topic\ngoal,sport\n,world\nvote,politics\ncoin,money\n")
    source = Texts(path=str(file), label="topic")
    texts, labels = source.inputs(7, (), 2), source.labels(7, 2)
    assert set(zip(texts, labels, strict=True)) == {("goal", "sport"), ("vote", "politics"), ("coin", "money")}
    assert Texts(path=str(file)).labels(3, 2) is None
    assert CsvReplay(path=str(file), columns=["text"], label="topic").as_texts() == Texts(
        path=str(file), column="text", label="topic"
    )
    with pytest.raises(ConfigurationError, match="has no column tone"):
        Texts(path=str(file), label="tone").labels(3, 2)


def test_noise_knows_no_truth():
    scenario, of = replication(Noise())
    assert of.labels(scenario, FEATURES) is None
