"""The package from outside: what an import loads, what is public, what is documented, what is declared."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

import xedge

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "xedge").rglob("*.py"))
HEAVY = {"torch", "onnxruntime", "onnx", "pandas", "matplotlib", "scipy", "papermill", "nbconvert", "IPython", "amqtt"}
HEAVY |= {"mlflow", "fastapi", "pyspark", "confluent_kafka"}

PROBE = """
import json, logging, sys, threading
before = set(sys.modules)
{code}
print(json.dumps({{
    "modules": sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}),
    "threads": [thread.name for thread in threading.enumerate()],
    "handlers": [repr(h) for name in ("", "xedge", "paho") for h in logging.getLogger(name).handlers],
    "levels": [logging.getLogger(name).level for name in ("", "xedge")],
}}))
"""


def probe(code):
    command = [sys.executable, "-W", "error", "-c", PROBE.format(code=code)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)  # nothing else was printed


LIGHT_NAMES = [name for name in xedge.__all__ if name not in ("Measurement", "build", "export")]


@pytest.mark.parametrize("code", ["import xedge", "import xedge\nfor name in {names!r}: getattr(xedge, name)"])
def test_import_in_a_fresh_process_has_no_effects(code):
    found = probe(code.format(names=LIGHT_NAMES))
    heavy = HEAVY if code == "import xedge" else {"torch", "onnxruntime", "matplotlib", "papermill", "nbconvert"}
    assert "xedge" in found["modules"]
    assert heavy.isdisjoint(found["modules"])
    assert found["threads"] == ["MainThread"]
    assert found["handlers"] == []
    assert found["levels"] == [30, 0]  # the root's own WARNING, and not set


def test_public_names_stand_in_the_stub_alone():
    tree = ast.parse((ROOT / "xedge" / "__init__.pyi").read_text(encoding="utf-8"))
    names = [alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert xedge.__all__ == sorted(set(names)) == dir(xedge)
    assert len(names) == len(set(names))


def test_public_names_resolve_and_have_a_docstring():
    things = {name: getattr(xedge, name) for name in xedge.__all__}
    assert {name: thing.__name__ for name, thing in things.items()} == {name: name for name in xedge.__all__}
    assert [name for name, thing in things.items() if not callable(thing)] == []
    assert [name for name, thing in things.items() if not (thing.__doc__ or "a").strip()[0].isupper()] == []


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No xedge attribute Sensor"):
        xedge.Sensor  # noqa: B018


def test_version_is_the_declared_one():
    assert xedge.__version__ == project()["version"]


@cache
def trees():
    return {path: ast.parse(path.read_text("utf-8")) for path in MODULES}


def undocumented(body, prefix=""):
    """Yield the public classes, functions and methods in `body` that say nothing about themselves."""
    for node in body:
        is_code = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if not is_code or node.name.startswith("_") or any("overload" in ast.unparse(d) for d in node.decorator_list):
            continue
        if not ast.get_docstring(node):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{node.name}.")


def test_modules_and_public_code_have_docstrings():
    assert [path.name for path, tree in trees().items() if not ast.get_docstring(tree)] == []
    assert {path.name: names for path, tree in trees().items() if (names := list(undocumented(tree.body)))} == {}


def test_undocumented_code_would_be_found():
    source = 'class A:\n "a"\n def b(self): ...\n def _c(self): ...\nasync def d(): ...\ndef e():\n "e"\n'
    assert list(undocumented(ast.parse(source).body)) == ["A.b", "d"]


def imported(tree, package="xedge"):
    """Return the full names of everything a module imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, [package if node.level else "", node.module]))
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def bounds(lines):
    """Return `name -> lower bound` of requirement lines such as `numpy>=1.26`."""
    split = (
        re.fullmatch(r"([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+)(?:,<[0-9.]+)?)?", line.partition(";")[0].strip())
        for line in lines
    )
    return {match[1].lower(): match[2] for match in split if match}


CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
CONDA_ONLY = {"python", "pip", "mosquitto", "git", "make"}


def environment():
    """Return environment.yml: its channels, its conda lines, its pip lines."""
    data = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    conda = [line for line in data["dependencies"] if isinstance(line, str)]
    pip = [line for entry in data["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    return data["channels"], conda, pip


def needed():
    """Everything a person in a notebook needs: the dependencies and the extra `lab`."""
    return [*project()["dependencies"], *project()["optional-dependencies"]["lab"]]


def test_environment_uses_conda_forge_and_installs_this_checkout():
    channels, conda, pip = environment()
    assert channels == ["conda-forge"]
    assert "-e ." in [re.sub(r"\[.*\]$", "", line) for line in pip]
    assert bounds(conda)["python"] == project()["requires-python"].removeprefix(">=")
    assert "pip" in bounds(conda)


def test_environment_lines_are_declared_dependencies_with_the_same_lower_bound():
    _channels, conda, _pip = environment()
    declared = bounds(needed())
    assert len(declared) == len(needed())  # every line was understood
    listed = bounds(conda)
    assert len(listed) == len(conda)
    python_names = {conda_name: name for name, conda_name in CONDA_NAMES.items()}
    for name, bound in listed.items():
        if name not in CONDA_ONLY:
            assert declared.get(python_names.get(name, name), "not declared") == bound, name


def test_edge_extra_is_all_the_service_imports(tmp_path):
    """A service imports the dependencies and the extra `edge`, nothing of the rest."""
    allowed = bounds([*project()["dependencies"], *project()["optional-dependencies"]["edge"]])
    code = (
        "import sys, xedge.cli.main, xedge.serving.services, xedge.serving.loop\n"
        "files = {name: getattr(module, '__file__', None) or '' for name, module in sys.modules.items()}\n"
        "print(*{name.partition('.')[0] for name, file in files.items() if 'site-packages' in file})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=180)
    loaded = {THIRD_PARTY.get(name, name) for name in done.stdout.split() if not name.startswith(("_", "xedge"))}
    assert "msgspec" in loaded
    used_if_there = {"typing_extensions", "dns", "idna"}  # of msgspec and paho, which do without
    assert loaded - used_if_there <= set(allowed)
    assert set(allowed) == {"lazy-loader", "msgspec", "numpy", "paho-mqtt", "onnxruntime"}


@pytest.mark.parametrize(
    ("statement", "package", "extra"),
    [
        ("xedge.Measurement", "pandas", "lab"),
        ("xedge.CloudMLService('x.pt').make_engine()", "torch", "lab"),
        ("xedge.EdgeMLService('x.onnx').make_engine()", "onnxruntime", "edge"),
        ("from xedge.text.registry.registry import Registry; Registry('.').connect()", "mlflow", "text"),
    ],
)
def test_missing_package_is_told_with_its_extra(statement, package, extra, tmp_path):
    (tmp_path / "x.onnx").touch()
    (tmp_path / "x.pt").touch()
    code = f"import sys; sys.modules[{package!r}] = None; import xedge; {statement}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=180)
    assert "MissingExtraError: " in done.stderr
    assert f'pip install "xedge[{extra}]"' in done.stderr.splitlines()[-1]


def test_environment_brings_every_declared_dependency():
    _channels, conda, pip = environment()
    by_pip = "-e .[lab]" in pip  # this brings all that are not there yet
    listed = bounds(conda)
    for name in bounds(needed()):
        assert by_pip or name in listed or CONDA_NAMES.get(name) in listed, name


THIRD_PARTY = {
    "bs4": "beautifulsoup4",
    "sklearn": "scikit-learn",
    "confluent_kafka": "confluent-kafka",
    "IPython": "ipykernel",
    "lazy_loader": "lazy-loader",
    "model_signing": "model-signing",
    "mlflow": "mlflow-skinny",
    "paho": "paho-mqtt",
    "prometheus_client": "prometheus-client",
    "yaml": "pyyaml",
    "importlinter": "import-linter",
    "websocket": "websocket-client",
    "xdist": "pytest-xdist",
}
BROUGHT = {
    "jinja2": "nbconvert",
    "jupyter_client": "nbclient",
    "nbformat": "nbclient",
    "packaging": "pytest",
    "pydantic": "fastapi",
    "starlette": "fastapi",
    "traitlets": "nbclient",
}
NOT_FOR_USERS = {"docs", "test", "lint"}  # what the package itself never imports


def declared(*extras):
    """Return the packages of the dependencies and of `extras`."""
    return set(bounds([*project()["dependencies"], *(line for e in extras for line in extras_of()[e])]))


def extras_of():
    return project()["optional-dependencies"]


def third_party(tree):
    """Return the packages, as pip calls them, that bring what a module imports, wherever in it."""
    used = {name.partition(".")[0] for name in imported(tree)} - set(sys.stdlib_module_names) - {"xedge"}
    return {BROUGHT.get(name, THIRD_PARTY.get(name, name)).lower() for name in used}


def test_imports_of_the_package_are_declared():
    users = declared(*(extras_of().keys() - NOT_FOR_USERS))
    for path, tree in trees().items():
        assert third_party(tree) <= users, path


def test_imports_of_the_tests_are_declared():
    paths = sorted((ROOT / "tests").rglob("*.py"))
    own = {path.stem for path in paths}
    used = {package for path in paths for package in third_party(ast.parse(path.read_text("utf-8")))}
    assert used - own <= declared(*(extras_of().keys() - {"lint"}))


ANSWERING = "__init__ features forks kind labels loading model registry/registry registry/stores registry/versions"
TEXT_EXTRAS = {name: ["text"] for name in ANSWERING.split()} | {
    "callers/http/app": ["text", "http"],
    "callers/http/server": ["text", "http"],
    "callers/kafka/consumer": ["text", "kafka"],
    "callers/spark": ["text", "cluster"],
    "registry/signing": ["text", "signing"],
}


@pytest.mark.parametrize("name", TEXT_EXTRAS)
def test_text_module_imports_only_what_its_extras_bring(name):
    """A worker that answers texts needs no packages for training or for another kind of worker."""
    assert third_party(trees()[ROOT / "xedge" / "text" / f"{name}.py"]) <= declared(*TEXT_EXTRAS[name])


OF_EXTRA = {"text": "mlflow-skinny", "http": "fastapi", "kafka": "confluent-kafka", "cluster": "pyspark"}


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("registry/registry", "text"),
        ("callers/http/app", "http"),
        ("callers/kafka/consumer", "kafka"),
        ("callers/spark", "cluster"),
    ],
)
def test_text_module_imports_what_its_extra_is_for(module, extra):
    assert OF_EXTRA[extra] in declared(extra)
    assert OF_EXTRA[extra] in third_party(trees()[ROOT / "xedge" / "text" / f"{module}.py"])
