"""Files: whole or not at all, refused before anything is measured, and saved elsewhere where saving fails."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from xedge.core import files
from xedge.core.exceptions import ConfigurationError, MeasurementError


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "tiny"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def read_only(tiny: Path) -> Path:
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    return tiny


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "a" / "b")
    files.check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for place in (tmp_path / "notes", tmp_path / "notes" / "below"):
        with pytest.raises(ConfigurationError, match=r"cannot write in .*notes is a file, not a folder; give another"):
            files.check_writable(place)


def test_a_folder_that_nobody_may_write_in_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot write in /proc/xedge: .*; give another folder \(--out\)"):
        files.check_writable(Path("/proc/xedge"))


def test_a_read_only_file_system_is_refused(read_only: Path) -> None:
    with pytest.raises(ConfigurationError, match="Read-only file system; give another folder"):
        files.check_writable(read_only)


def test_a_file_system_with_little_room_is_refused(tiny: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"0\.3 MB are free, a run may need 20 MB; make room, or"):
        files.check_writable(tiny)
    (tiny / "fill").write_bytes(bytes(200_000))
    with pytest.raises(ConfigurationError, match="No space left on device"):
        files.check_writable(tiny)


def test_what_cannot_be_saved_is_saved_elsewhere(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))

    def save(path: Path) -> None:
        path.write_bytes(bytes(300_000))

    assert files.saved(save, tmp_path / "good") == tmp_path / "good"
    with pytest.raises(MeasurementError, match=r"No space left on device\): it is saved in .*scratch") as error:
        files.saved(save, tiny / "rows")
    [kept] = (tmp_path / "scratch").rglob("rows")
    assert str(error.value).endswith(str(kept))
    assert kept.read_bytes() == bytes(300_000)


def test_what_can_be_saved_nowhere_is_said_to_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path / "none"))

    def save(path: Path) -> None:
        path.write_bytes(b"")

    with pytest.raises(MeasurementError, match="nor could any other folder: it is not saved"):
        files.saved(save, tmp_path / "none" / "rows")


def test_a_reader_finds_a_whole_file_whoever_writes(tmp_path: Path) -> None:
    path, texts = tmp_path / "page.html", [letter * 200_000 for letter in "abcd"]
    files.write_text(path, texts[0])
    writers = [
        threading.Thread(target=lambda text=text: [files.write_text(path, text) for _ in range(20)]) for text in texts
    ]
    for thread in writers:
        thread.start()
    while any(thread.is_alive() for thread in writers):
        assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]
