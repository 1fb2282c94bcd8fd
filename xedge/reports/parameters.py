"""The annotated parameters of a notebook, and the check of the values for them."""

import ast
import difflib
import io
import json
import os
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ConfigurationError
from xedge.reports import conversion


@dataclass(frozen=True)
class Parameter:
    """One line of the cell tagged `parameters`: `rate_hz: float = 200.0  # requests per second offered`."""

    name: str
    annotation: str
    default: Any
    help: str = ""
    notebook: str = "the notebook"


def inspect(notebook_path: str | os.PathLike[str]) -> list[Parameter]:
    """Return the parameters of a notebook in the order written; nothing in it is executed.

    A notebook without a cell tagged `parameters` has none.

    Raises:
        ConfigurationError: not a notebook, or a line of the cell that is not `name: type = value  # help`.
    """
    path = Path(notebook_path)
    return of_cells(read_cells(path), path)


def of_cells(cells: list[dict[str, Any]], path: Path) -> list[Parameter]:
    """Return the parameters that the cells of the notebook at `path` have, as `inspect` does."""
    tagged = [cell for cell in cells if "parameters" in cell.get("metadata", {}).get("tags", [])]
    tagged = [cell for cell in tagged if cell["cell_type"] == "code"]
    if len(tagged) > 1:
        raise ConfigurationError(f"{path} has {len(tagged)} cells tagged `parameters`: keep one")
    return _parameters("".join(tagged[0]["source"]), path) if tagged else []


def read_cells(path: Path) -> list[dict[str, Any]]:
    """Return the cells of the notebook at `path` as its file holds them.

    Raises:
        ConfigurationError: no such file, or not a notebook.
    """
    try:
        cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except OSError as exc:
        raise ConfigurationError(f"cannot read the notebook {path}: {exc.strerror or exc}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigurationError(f"{path} is not a notebook (format 4): open it in Jupyter and save it") from exc
    return cells


def _parameters(source: str, path: Path) -> list[Parameter]:
    try:
        body = ast.parse(source).body
    except SyntaxError as exc:
        raise ConfigurationError(f"{path}: the parameters cell, line {exc.lineno}: {exc.msg}") from exc
    comments = _comments(source)
    return [
        _parameter(node, path, comments.get(node.end_lineno or 0, ""))
        for node in body
        if not isinstance(node, ast.Import | ast.ImportFrom)
    ]


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}


def _parameter(node: ast.stmt, path: Path, comment: str) -> Parameter:
    where = f"{path}: the parameters cell, line {node.lineno}"
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value):
        raise ConfigurationError(f"{where}: `{ast.unparse(node)}` is not `name: type = value  # help`")
    name, annotation = node.target.id, ast.unparse(node.annotation)
    try:
        kind = conversion.parse(annotation)
    except ValueError as exc:
        raise ConfigurationError(f"{where}: {name}: {exc}") from exc
    try:
        default = conversion.convert(ast.literal_eval(node.value), kind, text=False)
    except (ValueError, TypeError) as exc:
        default_source, words = ast.unparse(node.value), conversion.words(kind)
        message = f"{where}: the default of {name}, {default_source}, must be a plain value: {words}"
        raise ConfigurationError(message) from exc
    return Parameter(name, annotation, default, comment, path.name)


def convert(parameters: list[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, converted by the annotations of the notebook's parameters.

    Text is read as the annotation says: "false" is False for a bool, "1e3" a float, "007" stays text for a
    str, "50,100" and "[50, 100]" are lists, "none" is None where that is allowed.

    Args:
        parameters: what `inspect` returned.
        values: by name, as a command line, a file or Python gives them.

    Raises:
        ConfigurationError: a name the notebook does not have, or a value its annotation does not allow.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name in values:
        if name not in known:
            raise ConfigurationError(_unknown(name, parameters))
    return {name: _converted(known[name], value) for name, value in values.items()}


def convert_several(parameters: list[Parameter], grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return name → the values of a sweep, each converted by the annotation of its parameter.

    Several values are a list, or text between commas: "50,100,200". A parameter that is a list itself takes a list
    of lists, or text with semicolons between the lists: "50,100; 200" are [50, 100] and [200]; one list is one
    value. With a semicolon in it text is split there only, so that "a,b;" is the one value "a,b".

    Raises:
        ConfigurationError: a name the notebook does not have, a value its annotation does not allow, no value at
            all, or one twice.
    """
    known = {parameter.name: conversion.parse(parameter.annotation) for parameter in parameters}
    converted: dict[str, list[Any]] = {}
    for name, value in grid.items():
        try:
            parts = _several(value, conversion.is_list(known[name])) if name in known else [value]
        except (ValueError, SyntaxError) as exc:
            raise ConfigurationError(f"parameter {name}: {value!r} is not a list of values: {exc}") from exc
        values = [convert(parameters, {name: part})[name] for part in parts]
        if not values:
            raise ConfigurationError(f"parameter {name} has no value to sweep over")
        if twice := [value for place, value in enumerate(values) if value in values[:place]]:
            raise ConfigurationError(f"parameter {name} is to be {twice[0]!r} twice: give every value once")
        converted[name] = values
    return converted


def _several(value: Any, of_lists: bool) -> list[Any]:
    """Return the values that one entry of a grid means: split text, a list of lists, or one value."""
    if type(value).__module__ == "numpy":
        value = value.tolist()
    if isinstance(value, str):
        if ";" in value:
            return [part.strip() for part in value.removesuffix(";").split(";")]
        return [value] if of_lists else conversion.split(value) or [value]
    if not isinstance(value, list | tuple | range):
        return [value]
    values = list(value)
    return values if not of_lists or any(isinstance(value, list | tuple) for value in values) else [values]


def _unknown(name: str, parameters: list[Parameter]) -> str:
    if not parameters:
        return f"there is no parameter {name!r}: this notebook has no parameters"
    names = [parameter.name for parameter in parameters]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{parameters[0].notebook} has no parameter {name!r}: {hint}It has {', '.join(names)}"


def _converted(parameter: Parameter, value: Any) -> Any:
    kind = conversion.parse(parameter.annotation)
    try:
        return conversion.convert(value, kind)
    except (ValueError, TypeError, SyntaxError) as exc:
        raise ConfigurationError(_wrong(parameter.name, value, kind, parameter.notebook)) from exc


def _wrong(name: str, value: Any, kind: Any, where: str) -> str:
    is_bare = conversion.required(kind) is str and not isinstance(value, str)
    advice = "; put it into quotes in the file" if is_bare else ""
    if (close := conversion.close_choice(value, kind)) is not None:
        advice = f": did you mean {close!r}?"
    return f"{where}: parameter {name} is {value!r} ({type(value).__name__}), expected {conversion.words(kind)}{advice}"


def check_parameters(namespace: Mapping[str, Any]) -> None:
    """Check a notebook's parameters: `xedge.check_parameters(globals())` in the cell after them.

    The same check that a batch run makes, for values typed in Jupyter. An int will do for a float.

    Args:
        namespace: the notebook's `globals()`; its annotated names are checked, others left alone.

    Raises:
        ConfigurationError: nothing is annotated, or a value is not what its annotation says.
    """
    annotations = namespace.get("__annotations__") or _typed(namespace)
    if not annotations:
        raise ConfigurationError(
            "no annotated parameters here: call xedge.check_parameters(globals()) in the cell after the one "
            "with lines such as `rate_hz: float = 200.0  # requests per second offered`"
        )
    for name, annotation in annotations.items():
        try:
            kind = conversion.parse(annotation)
        except ValueError:
            continue  # an annotated name of a later cell that is no parameter
        if name in namespace:
            _check(name, namespace[name], kind)


def _typed(namespace: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations in the cells run so far: Python 3.14 keeps none in the namespace."""
    annotations = {}
    for source in namespace.get("In", []):
        try:
            body = ast.parse(source).body
        except SyntaxError:  # a cell with magics
            continue
        for node in body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                annotations[node.target.id] = ast.unparse(node.annotation)
    return annotations


def _check(name: str, value: Any, kind: Any) -> None:
    try:
        conversion.convert(value, kind, text=False)
    except ValueError as exc:
        raise ConfigurationError(_wrong(name, value, kind, "this notebook")) from exc


def load_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values in a YAML file of `name: value` lines, as YAML reads them (`convert` does the rest).

    Raises:
        ConfigurationError: no such file, not YAML, not names with values, or a name twice; with the line.
    """
    sets = load_sets(path)
    if len(sets) != 1:
        raise ConfigurationError(f"{path} holds {len(sets)} sets of parameters: expected one, lines `name: value`")
    return sets[0]


def load_sets(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the sets of values in a YAML file: of `name: value` lines, or a list of such mappings.

    Raises:
        ConfigurationError: no such file, not YAML, not names with values, or a name twice; with the line.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        loaded = yaml.safe_load(text)
    except OSError as exc:
        raise ConfigurationError(f"cannot read the parameter file {path}: {exc.strerror or exc}") from exc
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as exc:
        mark = getattr(exc, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{path}{line}: not YAML: {getattr(exc, 'problem', exc)}") from exc
    if node is None:
        return [{}]
    if loaded == []:
        raise ConfigurationError(f"{path}, line 1: an empty list: expected sets of `name: value` lines")
    nodes, sets = (node.value, loaded) if isinstance(loaded, list) else ([node], [loaded])
    for mapping, values in zip(nodes, sets, strict=True):
        line = mapping.start_mark.line + 1
        if not isinstance(values, dict):
            kind = type(values).__name__
            raise ConfigurationError(f"{path}, line {line}: expected lines `name: value`, got a {kind}")
        _check_names(path, [(key.value, key.tag, key.start_mark.line + 1) for key, _ in mapping.value])
    return list(sets)


def _check_names(path: str | os.PathLike[str], keys: list[tuple[Any, str, int]]) -> None:
    seen: dict[Any, int] = {}
    for name, tag, line in keys:
        if not tag.endswith(":str"):
            raise ConfigurationError(f"{path}, line {line}: {name!r} is not a parameter's name: put it into quotes")
        if name in seen:
            raise ConfigurationError(f"{path}, line {line}: {name!r} is there already in line {seen[name]}")
        seen[name] = line
