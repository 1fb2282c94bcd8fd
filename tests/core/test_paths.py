"""Where the project is found from, and which files a model's name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from xedge.core import paths
from xedge.core.exceptions import ModelNotFoundError, XedgeError
from xedge.models.lookup import model_path


def project(folder, marker="pyproject.toml"):
    (folder / "notebooks").mkdir(parents=True)
    (folder / marker).touch()
    return folder


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A working folder outside any project, with the package installed outside any too."""
    monkeypatch.delenv("XEDGE_HOME", raising=False)
    folder = tmp_path / "nowhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages/xedge/core/paths.py"))
    return folder


@pytest.mark.parametrize("marker", ["scenario.yaml", "pyproject.toml", "environment.yml"])
@pytest.mark.parametrize("inside", [".", "notebooks", "notebooks/deep/er", "src"])
def test_project_root_is_found_from_folders_inside(nowhere, monkeypatch, marker, inside):
    root = project(nowhere / "project", marker)
    (root / inside).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(root / inside)
    assert paths.project_root() == root


def test_project_root_is_the_nearest_one(nowhere, monkeypatch):
    project(nowhere / "outer")
    inner = project(nowhere / "outer/inner")
    monkeypatch.chdir(inner / "notebooks")
    assert paths.project_root() == inner


@pytest.mark.parametrize(("folder", "file"), [("notebooks", None), (None, "pyproject.toml"), ("notebooks", "setup.py")])
def test_project_root_needs_notebooks_beside_a_project_file(nowhere, monkeypatch, folder, file):
    half = nowhere / "half"
    (half / (folder or "src")).mkdir(parents=True)
    if file:
        (half / file).touch()
    monkeypatch.chdir(half)
    assert paths.project_root() == half  # the last resort, the working folder
    monkeypatch.chdir(half / (folder or "src"))
    assert paths.project_root() == half / (folder or "src")


def test_project_root_is_the_editable_checkout_from_elsewhere(nowhere, monkeypatch):
    root = project(nowhere.parent / "checkout")
    monkeypatch.setattr(paths, "__file__", str(root / "xedge/core/paths.py"))
    assert paths.project_root() == root


def test_project_root_prefers_the_working_folder_to_the_checkout(nowhere, monkeypatch):
    monkeypatch.setattr(paths, "__file__", str(project(nowhere.parent / "checkout") / "xedge/core/paths.py"))
    here = project(nowhere / "project")
    monkeypatch.chdir(here)
    assert paths.project_root() == here


def test_project_root_is_what_the_environment_says(nowhere, monkeypatch):
    monkeypatch.chdir(project(nowhere / "project"))
    monkeypatch.setenv("XEDGE_HOME", str(nowhere / "elsewhere/../said"))
    assert paths.project_root() == nowhere / "said"


def test_project_root_expands_the_home_folder(nowhere, monkeypatch):
    monkeypatch.setenv("HOME", str(nowhere))
    monkeypatch.setenv("XEDGE_HOME", "~/mine")
    assert paths.project_root() == nowhere / "mine"


def test_project_root_ignores_an_empty_environment_variable(nowhere, monkeypatch):
    monkeypatch.setenv("XEDGE_HOME", "")
    assert paths.project_root() == nowhere


def test_folders_lie_in_the_project_and_are_not_made(nowhere, monkeypatch):
    monkeypatch.setenv("XEDGE_HOME", str(nowhere / "home"))
    found = [paths.models_dir(), paths.notebooks_dir(), paths.reports_dir()]
    assert found == [nowhere / "home" / name for name in ("models", "notebooks", "reports")]
    assert not any(folder.exists() for folder in found)


def test_shipped_notebooks_are_those_of_the_wheel_or_of_the_checkout(nowhere):
    package = nowhere.parent / "site-packages/xedge"
    assert paths.shipped_notebooks() == package.parent / "notebooks"
    (package / "notebooks").mkdir(parents=True)
    assert paths.shipped_notebooks() == package / "notebooks"


@pytest.fixture
def models(nowhere, monkeypatch):
    """The `models` folder of a project that has two models, worked in from elsewhere."""
    folder = project(nowhere.parent / "project") / "models"
    folder.mkdir()
    for name in ("net", "net.v2"):
        for suffix in (".onnx", ".pt", ".json"):
            (folder / (name + suffix)).touch()
    monkeypatch.setenv("XEDGE_HOME", str(folder.parent))
    return folder


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".json"])
@pytest.mark.parametrize("name", ["net", "net.v2"])
def test_model_path_of_a_name_is_in_the_models_folder(models, name, suffix):
    assert model_path(name, suffix) == models / (name + suffix)


@pytest.mark.parametrize("given", ["net.onnx", "net.pt", "net.json"])
@pytest.mark.parametrize("kind", [str, Path])
def test_model_path_of_one_file_names_the_others(models, given, kind):
    for suffix in (".onnx", ".pt", ".json"):
        assert model_path(kind(models / given), suffix) == models / f"net{suffix}"


def test_model_path_of_a_file_is_seen_from_the_working_folder(models, monkeypatch):
    monkeypatch.chdir(models)
    assert model_path("net.onnx", ".pt") == Path("net.pt")
    monkeypatch.chdir(models.parent)
    assert model_path("models/net.onnx", ".pt") == Path("models/net.pt")


def test_model_path_keeps_the_dots_of_a_model_s_name(models):
    assert model_path(models / "net.v2.onnx", ".pt") == models / "net.v2.pt"


@pytest.mark.parametrize("model", ["none", "net.v3", "sub/none.onnx", "none.onnx"])
def test_model_path_of_no_file_says_how_to_make_it(models, model):
    with pytest.raises(ModelNotFoundError, match=r"xedge build.*xedge\.export") as caught:
        model_path(model, ".onnx")
    assert Path(model).name in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, XedgeError)


def test_model_path_of_a_folder_is_no_file(models):
    (models / "dir.onnx").mkdir()
    with pytest.raises(ModelNotFoundError):
        model_path("dir", ".onnx")
