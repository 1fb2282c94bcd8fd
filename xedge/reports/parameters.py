"""The annotated parameters of a notebook, and the check of the values for them."""

import ast
import contextlib
import difflib
import io
import json
import os
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xedge.core.config import check_yaml
from xedge.core.exceptions import ConfigurationError
from xedge.reports import conversion
from xedge.scenario import thresholds
from xedge.serving.broker import check_environment

THRESHOLDS = "thresholds"
"""The name in a parameter file that is not a parameter's: under it stand limits, as `thresholds.read` takes them."""


@dataclass(frozen=True)
class Parameter:
    """One line of the cell tagged `parameters`: `rate_hz: float = 200.0  # requests per second offered`."""

    name: str
    kind: Any  # its annotation, as `conversion.parse` returns it
    default: Any
    help: str = ""
    notebook: str = "the notebook"


def of_cells(cells: Sequence[Mapping[str, Any]], path: Path) -> list[Parameter]:
    """Return the parameters in the cells of the notebook at `path`, in the order written; nothing is executed.

    A notebook without a code cell tagged `parameters` has none.

    Raises:
        ConfigurationError: several such cells, or a line in one that is not `name: type = value  # help`.
    """
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    tagged = [cell for cell in code if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) > 1:
        raise ConfigurationError(f"{path} has {len(tagged)} cells tagged `parameters`: keep one")
    source = "".join(tagged[0]["source"]) if tagged else ""
    try:
        body = ast.parse(source).body
    except SyntaxError as exc:
        raise ConfigurationError(f"{path}: the parameters cell, line {exc.lineno}: {exc.msg}") from exc
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}
    lines = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return [_parameter(node, path, comments.get(node.end_lineno or 0, "")) for node in lines]


def _parameter(node: ast.stmt, path: Path, comment: str) -> Parameter:
    where = f"{path}: the parameters cell, line {node.lineno}"
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value):
        raise ConfigurationError(f"{where}: `{ast.unparse(node)}` is not `name: type = value  # help`")
    name = node.target.id
    try:
        kind = conversion.parse(ast.unparse(node.annotation))
    except ValueError as exc:
        raise ConfigurationError(f"{where}: {name}: {exc}") from exc
    try:
        default = conversion.convert(ast.literal_eval(node.value), kind, text=False)
    except (ValueError, TypeError) as exc:
        message = f"the default of {name}, {ast.unparse(node.value)}, must be a plain value: {conversion.words(kind)}"
        raise ConfigurationError(f"{where}: {message}") from exc
    return Parameter(name, kind, default, comment, path.name)


def convert(parameters: list[Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by name, as a command line, a file or Python gives them, converted by the parameters' annotations.

    Text is read as the annotation says: "false" is False for a bool, "1e3" a float, "007" stays text for a
    str, "50,100" and "[50, 100]" are lists, "none" is None where that is allowed.

    Raises:
        ConfigurationError: a name the notebook does not have, or a value its annotation does not allow.
    """
    known = _known(parameters, values)
    return {name: _checked(name, value, known[name].kind, known[name].notebook) for name, value in values.items()}


def convert_several(parameters: list[Parameter], grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return name → the values of a sweep, each converted by the annotation of its parameter.

    Several values are a list, or text between commas: "50,100,200". A parameter that is a list itself takes a list
    of lists, or text with semicolons between the lists: "50,100; 200" are [50, 100] and [200]; one list is one
    value. With a semicolon in it text is split there only, so that "a,b;" is the one value "a,b".

    Raises:
        ConfigurationError: a name the notebook does not have, a value its annotation does not allow, no value at
            all, or one twice.
    """
    known, converted = _known(parameters, grid), {}
    for name, value in grid.items():
        try:
            parts = _several(conversion.plain(value), conversion.is_list(known[name].kind))
        except (ValueError, SyntaxError) as exc:
            raise ConfigurationError(f"parameter {name}: {value!r} is not a list of values: {exc}") from exc
        values = [_checked(name, part, known[name].kind, known[name].notebook) for part in parts]
        if not values:
            raise ConfigurationError(f"parameter {name} has no value to sweep over")
        if twice := [value for place, value in enumerate(values) if value in values[:place]]:
            raise ConfigurationError(f"parameter {name} is to be {twice[0]!r} twice: give every value once")
        converted[name] = values
    return converted


def _several(value: Any, of_lists: bool) -> list[Any]:
    """Return the values that one entry of a grid means: split text, a list of lists, or one value."""
    if isinstance(value, str):
        if ";" in value:
            return [part.strip() for part in value.removesuffix(";").split(";")]
        return [value] if of_lists else conversion.split(value) or [value]
    if not isinstance(value, list | tuple | range):
        return [value]
    return [value] if of_lists and not any(isinstance(part, list | tuple) for part in value) else list(value)


def _known(parameters: list[Parameter], asked: Mapping[str, Any]) -> dict[str, Parameter]:
    """Return name → parameter; raise for a name asked for that is not among them."""
    known = {parameter.name: parameter for parameter in parameters}
    for name in asked:
        if not known:
            raise ConfigurationError(f"there is no parameter {name!r}: this notebook has no parameters")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            there = f"{hint}It has {', '.join(known)}"
            raise ConfigurationError(f"{parameters[0].notebook} has no parameter {name!r}: {there}")
    return known


def _checked(name: str, value: Any, kind: Any, where: str, *, text: bool = True) -> Any:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        text_of = f"{where}: parameter {name} is {value!r}"
        raise ConfigurationError(f"{text_of}: half a character (a lone surrogate), which no file can hold") from None
    try:
        return conversion.convert(value, kind, text=text)
    except (ValueError, TypeError, SyntaxError) as exc:
        is_bare = conversion.required(kind) is str and not isinstance(value, str)
        advice = "; put it into quotes in the file" if is_bare else ""
        if (close := conversion.close_choice(value, kind)) is not None:
            advice = f": did you mean {close!r}?"
        problem = f"{value!r} ({type(value).__name__}), expected {conversion.words(kind)}{advice}"
        raise ConfigurationError(f"{where}: parameter {name} is {problem}") from exc


def check_parameters(namespace: Mapping[str, Any]) -> None:
    """Check a notebook's parameters: `xedge.check_parameters(globals())` in the cell after them.

    The same check that a batch run makes, for values typed in Jupyter. An int will do for a float.

    The annotated names in `namespace` are checked, others left alone.

    Raises:
        ConfigurationError: nothing is annotated, or a value is not what its annotation says; or `XEDGE_BROKER` is not
            what a broker can be.
    """
    check_environment()
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
            _checked(name, namespace[name], kind, "this notebook", text=False)


def _typed(namespace: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations in the cells run so far: Python 3.14 keeps none in the namespace."""
    annotations: dict[str, str] = {}
    for source in namespace.get("In", []):
        with contextlib.suppress(SyntaxError):  # of a cell with magics
            nodes = [node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
            annotations |= {ast.unparse(node.target): ast.unparse(node.annotation) for node in nodes}
    return annotations


def load_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values in a YAML file of `name: value` lines, as YAML reads them (`convert` does the rest).

    Raises:
        ConfigurationError: as `load_sets`, or several sets.
    """
    sets = load_sets(path)
    if len(sets) != 1:
        raise ConfigurationError(f"{path} holds {len(sets)} sets of parameters: expected one, lines `name: value`")
    return sets[0]


def load_sets(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the sets of values in a YAML file: of `name: value` lines, or a list of such mappings.

    What is under `thresholds` in a set is no parameter and left out: `load_thresholds` reads it.

    Raises:
        ConfigurationError: no such file, not YAML, not names with values, or a name twice; with the line.
    """
    return [{name: value for name, value in each.items() if name != THRESHOLDS} for each in _load(path)]


def load_thresholds(path: str | os.PathLike[str]) -> list[list[str]]:
    """Return what each set of the YAML file has under `thresholds`: lines such as "edge.p99_ms > 20".

    Raises:
        ConfigurationError: as `load_sets`, or a line that is no threshold.
    """
    limits = [each.get(THRESHOLDS) or [] for each in _load(path)]
    for texts in limits:
        thresholds.read(texts)
    return limits


def _load(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    import yaml

    try:
        check_yaml(text := Path(path).read_text(encoding="utf-8"))
        node, loaded = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
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
        where = f"{path}, line {mapping.start_mark.line + 1}"
        if not isinstance(values, dict):
            raise ConfigurationError(f"{where}: expected lines `name: value`, got a {type(values).__name__}")
        seen: dict[Any, int] = {}
        for key, line in ((key, key.start_mark.line + 1) for key, _ in mapping.value):
            if not key.tag.endswith(":str"):
                message = f"{key.value!r} is not a parameter's name: put it into quotes"
                raise ConfigurationError(f"{path}, line {line}: {message}")
            if key.value in seen:
                raise ConfigurationError(
                    f"{path}, line {line}: {key.value!r} is there already in line {seen[key.value]}"
                )
            seen[key.value] = line
    return list(sets)
