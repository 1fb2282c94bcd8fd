"""The package as others get it: built, installed where no checkout is near, and used for a first report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 540.0


def run(*command: Any, cwd: Path, ok: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with nothing of this checkout in its environment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("XEDGE_", "MQTT_", "PYTHON"))}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode in ok, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution: what is missing there would be missing here."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    [sdist] = folder.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, sdist, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `xedge` of an environment that has the wheel; what it depends on is shared with this environment."""
    folder = tmp_path_factory.mktemp("environment") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder.parent)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    shared = [path for path in sys.path if path.endswith("site-packages")]
    own = Path(run(python, "-c", where, cwd=folder.parent).stdout.strip())
    (own / "shared.pth").write_text("\n".join(shared), encoding="utf-8")  # their own .pth files are not read
    (folder / "share").symlink_to(Path(sys.prefix) / "share")  # nbconvert's templates
    return folder / "bin" / "xedge"


def committed(*folders: str) -> set[str]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *folders, cwd=ROOT)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def test_wheel_holds_the_package_and_the_notebooks_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert names == committed("xedge") | {f"xedge/{name}" for name in committed("notebooks")}
    assert wheel.stat().st_size < 1e6


@pytest.mark.long
def test_first_report_from_an_installed_wheel(command: Path, tmp_path: Path) -> None:
    """`xedge report` outside of a project says what to do; what it says leads to a first page."""
    code = "import xedge; print(xedge.__file__)"
    module = run(command.with_name("python"), "-c", code, cwd=tmp_path).stdout.strip()
    assert Path(module).is_relative_to(command.parents[1])
    refused = run(command, "report", "00_quickstart", cwd=tmp_path, ok=(2,)).stderr
    assert "xedge init DIR" in refused
    assert len(refused.splitlines()) == 1
    run(command, "init", "study", cwd=tmp_path)
    study = tmp_path / "study"
    settings = ["-p", "duration_s", "1", "-p", "quick", "true"]
    run(command, "report", "00_quickstart", *settings, cwd=study / "notebooks", ok=(0, 3))
    assert (study / "reports" / "quickstart.html").is_file()
    [record] = (study / "reports").rglob("run.json")  # in the run's own folder
    assert json.loads(record.read_text("utf-8"))["status"] == "completed"
    assert (study / "models" / "anomaly_detector.onnx").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"study"}
