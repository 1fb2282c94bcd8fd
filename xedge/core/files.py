"""Files written whole or not at all, in places that are known to take them, or elsewhere; and checksums."""

import glob
import hashlib
import json
import os
import platform
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ConfigurationError, MeasurementError

LEAST_FREE_BYTES = 20_000_000  # rows and page of an ordinary run
_PROBE = bytes(100_000)
_SEAL = "card_sha256"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of renameat2(2)


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file, an empty one if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader finds the old one or the new one, never half of it."""
    write_text(path, json_text(value))


def json_text(value: Mapping[str, Any]) -> str:
    """Return what `write_json` writes."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Make `folder` if it is not there and write in it, so that this does not fail after an hour of measuring.

    Raises:
        ConfigurationError: it is a file, cannot be made or written, or has no room; the message says which.
    """
    advice = "give another folder (--out)"
    if blocking := next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None):
        raise ConfigurationError(f"cannot write in {folder}: {blocking} is a file, not a folder; {advice}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(_PROBE)
            probe.flush()
        free = shutil.disk_usage(folder).free
    except OSError as exc:
        raise ConfigurationError(f"cannot write in {folder}: {exc.strerror or exc}; {advice}") from exc
    if free < LEAST_FREE_BYTES:
        room = f"{free / 1e6:.1f} MB are free, a run may need {LEAST_FREE_BYTES / 1e6:.0f} MB"
        raise ConfigurationError(f"cannot write in {folder}: {room}; make room, or {advice}")


def saved(save: Callable[[Path], Any], target: Path) -> Path:
    """Return `target` after `save(target)`; where that cannot be written, what was measured is saved elsewhere.

    Raises:
        MeasurementError: it is saved elsewhere; the message says why and where.
    """
    try:
        save(target)
    except OSError as exc:
        failed = f"{target} could not be written ({exc.strerror or exc})"
    else:
        return target
    for parent in (Path(tempfile.gettempdir()), Path.home()):
        try:
            elsewhere = Path(tempfile.mkdtemp(prefix="xedge-saved-", dir=parent)) / target.name
            save(elsewhere)
        except OSError:
            continue
        raise MeasurementError(f"{failed}: it is saved in {elsewhere}")
    raise MeasurementError(f"{failed}, nor could any other folder: it is not saved")


def put_in_place(new: Path, target: Path) -> None:
    """Give the file or folder `new` the name `target`; what had that name gets the name of `new`.

    On Linux there is no moment without a `target`; elsewhere one lies between two renames.
    """
    if not target.exists():
        new.rename(target)
        return
    try:
        _exchange(new, target)
    except (AttributeError, OSError):  # not on this system, or not on this disk
        aside = new.with_name(f"{new.name}.old")
        target.rename(aside)
        try:
            new.rename(target)
        except OSError:
            aside.rename(target)
            raise
        aside.rename(new)


def _exchange(one: Path, other: Path) -> None:
    import ctypes

    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "cannot exchange two names")


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """Yield a folder beside `target` that goes afterwards, and clear what a process that was killed has left there."""
    own = f".{target.name}-{platform.node()}-"
    for stale in target.parent.glob(f"{glob.escape(own)}*-*"):
        if not _is_running(stale.name.rsplit("-", 2)[-2]):
            if not target.exists() and (aside := next(stale.glob("*.old"), None)):
                aside.rename(target)
            shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{own}{os.getpid()}-", dir=target.parent) as folder:
        yield Path(folder)


def _is_running(pid: str) -> bool:
    if os.name != "posix" or not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:  # of somebody else
        return True
    return True


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain facts with `card_sha256`, the checksum of all the others, whatever their order and layout."""
    return {**facts, _SEAL: _checksum(facts)}


def is_as_sealed(facts: Mapping[str, Any]) -> bool:
    """Return whether the facts are those that `sealed` saw; facts that were never sealed are taken as they are."""
    return _SEAL not in facts or facts[_SEAL] == _checksum(facts)


def _checksum(facts: Mapping[str, Any]) -> str:
    plain = json.loads(json_text({name: value for name, value in facts.items() if name != _SEAL}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
