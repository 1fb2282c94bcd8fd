"""`xedge init`: what it writes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xedge import Scenario
from xedge.cli.init import fill
from xedge.cli.main import main
from xedge.core import paths
from xedge.scenario.placements import Cloud

ROOT = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_init_makes_a_folder_that_is_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XEDGE_HOME", raising=False)
    folder = tmp_path / "new" / "study"
    assert main(["init", str(folder)]) == 0
    names = contents(folder).keys()
    assert {"README.md", "scenario.yaml", "notebooks/00_quickstart.ipynb"} <= names
    assert {n for n in names if n.startswith("notebooks")} == {
        f"notebooks/{path.relative_to(ROOT / 'notebooks')}"
        for pattern in ("*.ipynb", "parameters/*.yaml")
        for path in (ROOT / "notebooks").glob(pattern)
    }
    monkeypatch.chdir(folder / "notebooks")
    assert paths.project_root() == folder


def test_init_again_writes_what_is_missing_and_nothing_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "scenario.yaml").write_text("mine")
    (tmp_path / "notebooks/00_quickstart.ipynb").unlink()
    (tmp_path / "notebooks/my.ipynb").write_text("mine too")
    assert main(["init", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}: 1 file written; left as they were: " in said
    assert "scenario.yaml" in said
    mine = {"scenario.yaml": b"mine", "notebooks/my.ipynb": b"mine too"}
    assert contents(tmp_path) == before | mine


@pytest.mark.parametrize("given", ["file", "file/below"])
def test_init_where_a_file_is(tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert main(["init", str(tmp_path / given)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "file") in line
    assert "another folder" in line
    assert contents(tmp_path) == {"file": b"mine"}


def test_init_where_nothing_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "/proc/xedge"]) == 2  # root may write everywhere else
    [line] = capsys.readouterr().err.splitlines()
    assert "/proc/xedge" in line


def test_scenario_that_init_writes_is_the_one_the_readme_shows(tmp_path: Path) -> None:
    fill(tmp_path)
    text = (tmp_path / "scenario.yaml").read_text("utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert text in blocks
    for number, block in enumerate(block for block in blocks if "model:" in block):
        (tmp_path / f"{number}.yaml").write_text(block, encoding="utf-8")
        scenario = Scenario.from_yaml(tmp_path / f"{number}.yaml")
        assert Scenario.from_dict(scenario.as_dict()) == scenario
    cloud = Scenario.from_yaml(tmp_path / "scenario.yaml").placements["cloud"]
    assert isinstance(cloud, Cloud)
    assert [link.delay_ms for link in cloud.links] == [17.6, 17.6]


def test_report_outside_of_any_project_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XEDGE_HOME", str(tmp_path))
    assert main(["report"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"xedge: no notebook 02_edge_vs_cloud: there are none in {tmp_path}")
    assert "xedge init DIR" in line
    assert list(tmp_path.iterdir()) == []
