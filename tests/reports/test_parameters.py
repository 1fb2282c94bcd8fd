"""What a notebook's parameters are, and which values they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import pytest

import xedge
from xedge.core.exceptions import ConfigurationError
from xedge.reports import conversion, parameters
from xedge.reports.notebooks import Notebook

SOURCE = """from typing import Literal

rate_hz: float = 200  # requests per second offered
replications: int = 3
quick: bool = True  # fewer requests; "no # in a string" is not a comment
name: str = "a # b"  # label
preset: Literal["lan", "cloud"] = "lan"  # link
limit: int | None = None  # none for no limit
rates: list[int] = [50, 100]  # the sweep
"""


def notebook(folder: Path, source: str, tags: tuple[str, ...] = ("parameters",)) -> Path:
    cell = {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source.splitlines(keepends=True)}
    path = folder / "01_sweep.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return path


def inspected(path: Path) -> list[parameters.Parameter]:
    return Notebook.open(path).parameters


def converted(annotation: str, value: Any) -> Any:
    one = parameters.Parameter("x", conversion.parse(annotation), None, "", "01_sweep.ipynb")
    return parameters.convert([one], {"x": value})["x"]


def test_inspect_reads_names_types_defaults_and_help(tmp_path: Path) -> None:
    found = inspected(notebook(tmp_path, SOURCE))
    assert [(one.name, one.default) for one in found] == [
        ("rate_hz", 200.0),
        ("replications", 3),
        ("quick", True),
        ("name", "a # b"),
        ("preset", "lan"),
        ("limit", None),
        ("rates", [50, 100]),
    ]
    assert found[0].kind is float
    assert isinstance(found[0].default, float)
    assert [one.help for one in found][:4] == [
        "requests per second offered",
        "",
        'fewer requests; "no # in a string" is not a comment',
        "label",
    ]


def test_inspect_without_parameters_cell(tmp_path: Path) -> None:
    assert inspected(notebook(tmp_path, "1 / 0", tags=())) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("rate = 3", "line 1: `rate = 3` is not `name: type = value"),
        ("a: int = 1\nb: int", "line 2: `b: int` is not"),
        ("a: int = 2.5", "the default of a, 2.5, must be a plain value: int"),
        ("a: int = open('x')", "must be a plain value"),
        ("a: complex = 1j", "annotation complex is not supported: use bool"),
        ("a: int | str = 1", "not supported"),
        ("a: list[list[int]] = []", "not supported"),
        ("a: int = ", "the parameters cell, line 1: invalid syntax"),
    ],
)
def test_inspect_refuses_a_line(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        inspected(notebook(tmp_path, source))
    assert words in str(caught.value)
    assert "01_sweep.ipynb" in str(caught.value)


def test_inspect_refuses_what_is_no_notebook(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("[]")
    with pytest.raises(ConfigurationError, match=r"a\.ipynb is not a notebook"):
        inspected(tmp_path / "a.ipynb")
    (tmp_path / "a.ipynb").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"a\.ipynb is not a notebook"):
        inspected(tmp_path / "a.ipynb")
    with pytest.raises(ConfigurationError, match="no notebook"):
        inspected(tmp_path / "b.ipynb")


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        ("bool", "false", False),
        ("bool", "YES", True),
        ("bool", np.True_, True),
        ("float", "1e3", 1000.0),
        ("float", 3, 3.0),
        ("float", np.float32(0.5), 0.5),
        ("int", "1e3", 1000),
        ("int", " 1_000 ", 1000),
        ("int", np.int64(3), 3),
        ("str", "007", "007"),
        ("str", "none", "none"),
        ("str | None", "none", None),
        ("Optional[int]", "7", 7),
        ("int | None", None, None),
        ("None | int", "null", None),
        ("Literal['lan', 'cloud']", "cloud", "cloud"),
        ("Literal[1, 2]", "2", 2),
        ("typing.Literal[True, 'auto']", "true", True),
        ("list[int]", "[50, 100]", [50, 100]),
        ("list[int]", "50,100", [50, 100]),
        ("list[int]", "", []),
        ("list[float]", (1, 2), [1.0, 2.0]),
        ("list[float]", np.array([1.5, 2.0]), [1.5, 2.0]),
        ("list[str]", "007, b", ["007", "b"]),
        ("list[str]", "['a, b', 'c']", ["a, b", "c"]),
        ("list[int | None]", "1, none", [1, None]),
        ("list[Literal['edge', 'cloud']]", "edge,cloud", ["edge", "cloud"]),
    ],
)
def test_convert_by_annotation(annotation: str, value: Any, expected: Any) -> None:
    result = converted(annotation, value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        ("int", "2.5", "int"),
        ("int", "1e-3", "int"),
        ("int", 2.0, "int"),
        ("int", True, "int"),
        ("float", "fast", "float"),
        ("float", False, "float"),
        ("bool", "maybe", "bool"),
        ("bool", 1, "bool"),
        ("str", 7, "str; put it into quotes"),
        ("int", None, "int"),
        ("Literal['lan', 'cloud']", "moon", "one of 'lan', 'cloud'"),
        ("Literal['lan', 'cloud'] | None", "clud", "one of 'lan', 'cloud' or None: did you mean 'cloud'?"),
        ("list[int]", "50,a", "list of int"),
        ("list[str]", "['a", "list of str"),
        ("list[int]", 50, "list of int"),
        ("int | None", "x", "int or None"),
    ],
)
def test_convert_refuses_with_name_value_type_and_notebook(annotation: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        converted(annotation, value)
    message = str(caught.value)
    assert message.startswith(f"01_sweep.ipynb: parameter x is {value!r} ({type(value).__name__})")
    assert f"expected {expected}" in message


def test_convert_unknown_name_suggests_the_closest(tmp_path: Path) -> None:
    known = inspected(notebook(tmp_path, SOURCE))
    with pytest.raises(ConfigurationError, match=r"no parameter 'rate_hs': did you mean 'rate_hz'\? It has rate_"):
        parameters.convert(known, {"rate_hs": 3})
    with pytest.raises(ConfigurationError, match="this notebook has no parameters"):
        parameters.convert([], {"rate_hs": 3})


def test_check_parameters_accepts_real_types_and_strings() -> None:
    annotations = {
        "rate_hz": float,
        "n": "int",
        "link": Literal["lan", "cloud"],
        "limit": int | None,
        "other": Optional[str],  # noqa: UP045 - notebooks may write it
        "rates": list[float],
        "result": np.ndarray,  # no parameter: left alone
        "unset": int,
    }
    values = {"rate_hz": 3, "n": 2, "link": "lan", "limit": None, "other": None, "rates": [1, 2.5], "result": 1}
    xedge.check_parameters({"__annotations__": annotations, **values})


@pytest.mark.parametrize(
    ("annotation", "value"), [(int, 2.5), (int, "2"), (bool, "false"), ("list[int]", (1, 2)), (float, None)]
)
def test_check_parameters_refuses_without_converting(annotation: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"parameter x is .*, expected"):
        xedge.check_parameters({"__annotations__": {"x": annotation}, "x": value})


def test_check_parameters_reads_the_cells_where_python_keeps_no_annotations() -> None:
    cells = ["", "%matplotlib inline", "x: int = 1"]
    xedge.check_parameters({"In": cells, "x": 1})
    with pytest.raises(ConfigurationError, match="parameter x is 'a'"):
        xedge.check_parameters({"In": cells, "x": "a"})
    with pytest.raises(ConfigurationError, match="no annotated parameters here"):
        xedge.check_parameters({})


def test_load_file_returns_what_yaml_reads(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text('rate_hz: 1e3\nname: "007"\nrates: [50, 100]\nlimit: null\n')
    assert parameters.load_file(path) == {"rate_hz": "1e3", "name": "007", "rates": [50, 100], "limit": None}
    path.write_text("# nothing\n")
    assert parameters.load_file(path) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: [1, 2\n", "line 3: not YAML"),
        ("- a\n- b\n", "line 1: expected lines `name: value`, got a str"),
        ("a: 1\na: 2\n", "line 2: 'a' is there already in line 1"),
        ("a: 1\non: 2\n", "line 2: 'on' is not a parameter's name"),
        ("a: !!python/object:os.system x\n", "line 1: not YAML"),
    ],
)
def test_load_file_refuses_with_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "big.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        parameters.load_file(path)
    assert str(caught.value).startswith(f"{path}, {words}")


def test_load_file_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the parameter file .*none\.yaml: No such file"):
        parameters.load_file(tmp_path / "none.yaml")
