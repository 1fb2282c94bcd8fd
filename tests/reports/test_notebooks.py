"""Every notebook, found by glob: run as a report with quick parameters, and as it stands with nbval."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checks_of_runs import assert_sound

from xedge.core import paths
from xedge.reports import parameters
from xedge.reports import run as report
from xedge.reports.notebooks import Notebook, report_name

#: What conclusions must say whatever the machine: a pattern, and between what its numbers must lie.
NUMBERS = {
    "01_build_models": {r"[a-z] (0\.\d{3})": (0.9, 1.0), r"at most (\S+), so": (0.0, 1e-5)},
    "09_train_text": {r"(\d+\.\d) % of \d+ held-out texts right": (70, 95)},
    "05_performance_inversion": {r"mean: [^;]* from utilisation (0\.\d\d) on by theory": (0.52, 0.53)},
}
NOTEBOOKS = sorted(paths.notebooks_dir().glob("*.ipynb"))


@pytest.fixture(scope="module", autouse=True)
def _registry_of_the_notebooks(empty_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the notebooks register and promote is neither the project's nor what other tests work with."""
    folder = shutil.copytree(empty_registry, tmp_path_factory.mktemp("notebooks") / "registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", str(folder))
        yield


def quick_parameters(notebook: Path) -> dict[str, object]:
    """The same few words for every notebook, as far as it has them."""
    wanted = {"quick": True, "duration_s": 0.6, "replications": 2, "windows": 200, "budget_s": 6.0}
    known = {one.name for one in Notebook.open(notebook).parameters}
    return {name: value for name, value in wanted.items() if name in known}


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_as_a_report(notebook: Path, tmp_path: Path) -> None:
    run = report.run(notebook, quick_parameters(notebook), out_dir=tmp_path, timeout_s=300, progress=False)
    run.raise_for_status()
    facts = json.loads((run.folder / "run.json").read_text())
    page = run.html.read_text()
    assert facts["status"] == "completed"
    assert facts["conclusion"]
    assert "Figure without a description" not in page
    assert len(page) < 3_000_000
    assert_sound(report.Run.read(run.folder))
    numbers = NUMBERS.get(notebook.stem, {})
    for pattern, (least, most) in numbers.items():
        values = [float(value) for value in re.findall(pattern, facts["conclusion"])]
        assert values, pattern
        assert least <= min(values) <= max(values) <= most


@pytest.mark.long
@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_as_it_stands_in_nbval(notebook: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", "--nbval-lax"]
    command += ["--nbval-kernel-name", "python3", "--nbval-cell-timeout", "600", str(notebook)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, env=env, cwd=paths.project_root())
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("file", sorted(paths.notebooks_dir().glob("parameters/*.yaml")), ids=lambda path: path.stem)
def test_parameter_file_fits_its_notebook(file: Path) -> None:
    notebook = next(path for path in NOTEBOOKS if report_name(path) == file.stem)
    assert parameters.convert(Notebook.open(notebook).parameters, parameters.load_file(file))
