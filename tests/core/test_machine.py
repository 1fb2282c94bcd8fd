"""Conditions: versions, host, load and commit, where they can be had and where they cannot."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess

import pytest

from xedge.core import machine


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "tester")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "tester@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "file").write_text("one")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        git(tmp_path, *command)
    return tmp_path


def git(folder, *command):
    return subprocess.run(["git", "-C", folder, *command], check=True, capture_output=True, text=True).stdout.strip()


def test_versions_are_those_installed():
    versions = machine.versions()
    assert versions["python"] == platform.python_version()
    for package in ("xedge", "numpy", "torch", "onnxruntime", "paho-mqtt"):
        assert versions[package] == importlib.metadata.version(package)


def test_versions_leave_out_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "no-such-package-xyz"))
    assert list(machine.versions.__wrapped__()) == ["python", "numpy"]


def test_host_tells_what_the_machine_is():
    host = machine.host()
    assert json.loads(json.dumps(host)) == host
    assert host["cpu"].strip()
    assert 1 <= host["cores"] <= os.cpu_count()
    assert host["os"].startswith(platform.system())
    assert host["machine"] == platform.machine()
    assert host["memory_gib"] > 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_host_counts_the_cores_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert machine.host()["cores"] == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_host_without_cpuinfo_or_sysconf_still_has_a_name(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "Path", lambda _path: tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._cpu_model.__wrapped__() == (platform.processor() or platform.machine())
    monkeypatch.setattr(machine, "_cpu_model", lambda: "cpu")
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine.host()["cores"] == os.cpu_count()
    assert "memory_gib" not in machine.host()


def test_load_average_is_the_system_s_or_none(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1.234, 9, 9), raising=False)
    assert machine.load_average() == 1.23
    monkeypatch.delattr(os, "getloadavg")
    assert machine.load_average() is None


def test_git_commit_of_a_clean_checkout(repository):
    assert machine.git_commit(repository) == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}


def test_git_commit_is_found_from_a_folder_below(repository):
    (repository / "below").mkdir()
    assert machine.git_commit(repository / "below") == machine.git_commit(repository)


@pytest.mark.parametrize("name", ["file", "new file"])
def test_git_commit_of_a_changed_checkout_is_dirty(repository, name):
    clean = machine.git_commit(repository)
    (repository / name).write_text("two")
    assert machine.git_commit(repository) == clean | {"dirty": True}


def test_git_commit_ignores_what_git_ignores(repository):
    (repository / ".git/info/exclude").write_text("*.tmp\n")
    (repository / "a.tmp").write_text("")
    assert machine.git_commit(repository)["dirty"] is False


def test_git_commit_is_that_of_the_project_by_default(repository, monkeypatch):
    monkeypatch.setenv("XEDGE_HOME", str(repository))
    assert machine.git_commit() == machine.git_commit(repository)


def test_git_commit_outside_a_checkout_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert machine.git_commit(tmp_path) is None
    assert machine.git_commit(tmp_path / "none") is None


def test_git_commit_without_git_is_none(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))
    assert machine.git_commit(repository) is None


def test_git_commit_before_the_first_commit_is_none(repository):
    git(repository, "checkout", "-q", "--orphan", "empty")
    assert machine.git_commit(repository) is None
