"""What xedge depends on: bounds on both sides, one version for each that was tested, known licences."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "site"))
licences = importlib.import_module("licences")
sys.path.pop(0)

CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
ON_CONDA_ONLY = {"python", "pip"}


def requirements() -> Iterator[tuple[str, Requirement]]:
    """Every line of pyproject.toml that asks for a package, with where it stands."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for line in data["build-system"]["requires"]:
        yield "build-system", Requirement(line)
    for line in data["project"]["dependencies"]:
        yield "dependencies", Requirement(line)
    for extra, lines in data["project"]["optional-dependencies"].items():
        for line in lines:
            yield extra, Requirement(line)


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pinned() -> dict[str, str]:
    return {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in constraint_lines())
    }


def test_every_dependency_has_a_lower_and_an_upper_bound():
    for place, requirement in requirements():
        operators = sorted(specifier.operator for specifier in requirement.specifier)
        assert operators == ["<", ">="], f"{place}: {requirement}"


def test_every_constraint_is_one_version_and_stands_once():
    assert [line for line in constraint_lines() if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []
    assert len(pinned()) == len(constraint_lines())


def test_every_dependency_has_a_constraint_within_its_bounds():
    for place, requirement in requirements():
        version = pinned().get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt has no {requirement.name} ({place})"
        assert requirement.specifier.contains(version), f"{place}: {requirement}, but constraints.txt has {version}"


def test_bounds_of_a_package_are_the_same_wherever_it_is_asked_for():
    asked: dict[str, set[str]] = {}
    for _, requirement in requirements():
        asked.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    assert {name: bounds for name, bounds in asked.items() if len(bounds) > 1} == {}


def test_conda_asks_for_the_same_bounds_as_pip():
    declared = {canonicalize_name(requirement.name): requirement.specifier for _, requirement in requirements()}
    lines = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    of_conda = [re.match(r"([A-Za-z0-9._-]+)(.*)", line) for line in lines if isinstance(line, str)]
    compared = {match[1]: SpecifierSet(match[2]) for match in of_conda if match and match[1] not in ON_CONDA_ONLY}
    assert len(compared) > 15
    for name, bounds in compared.items():
        assert declared[canonicalize_name(CONDA_NAMES.get(name, name))] == bounds, name


def test_licence_of_everything_installed_is_known_and_not_forbidden():
    listed = licences.packages()
    assert {"numpy", "msgspec", "paho-mqtt", "torch", "mlflow-skinny", "certifi", "pytest"} <= {
        one.name for one in listed
    }
    others = [one for one in listed if not one.name.startswith(licences.OF_CUDA) and not licences.is_fine(one.licence)]
    assert others == []


@pytest.mark.parametrize(
    "licence",
    [
        "MIT",
        "The MIT License (MIT)",
        "BSD License",
        "Apache License, Version 2.0",
        "MPL-2.0 AND MIT",
        "EPL-2.0 OR BSD-3-Clause",
        "Apache-2.0 WITH LLVM-exception AND BSL-1.0",
        "Public Domain OR BSD License OR GNU General Public License (GPL)",
        "GNU Lesser General Public License v3 (LGPLv3)",
    ],
)
def test_licences_that_are_fine(licence):
    assert licences.is_fine(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "",
        "see LICENSE",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-or-later",
        "AGPL-3.0",
        "GNU General Public License v2 (GPLv2)",
        "GNU Affero General Public License v3",
        "SSPL-1.0",
        "BUSL-1.1",
        "Other/Proprietary License",
        "LicenseRef-NVIDIA-Proprietary",
        "Apache-2.0 AND Commons Clause",
        "MITRE licence",
    ],
)
def test_licences_that_are_not_fine(licence):
    assert not licences.is_fine(licence)


def test_page_lists_every_package_with_what_brings_it(tmp_path):
    licences.write(tmp_path)
    page = (tmp_path / "licences.md").read_text("utf-8")
    assert re.search(r"^\| msgspec \| [0-9.]+ \| BSD-3-Clause \| xedge itself \|$", page, re.MULTILINE)
    assert re.search(r"^\| onnxruntime \| [0-9.]+ \| MIT License \| edge, lab, text \|$", page, re.MULTILINE)
