"""Files written whole or not at all, those of an earlier run removed, and checksums."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file, an empty one if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader finds the old one or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8", newline="\n")
    draft.replace(path)


def clear(folder: Path) -> None:
    """Remove the files that the run.json in `folder` says an earlier run wrote, and nothing else."""
    earlier = read_json(folder / "run.json").get("files", [])
    for name in [*earlier, "record.json"]:
        path = folder / str(name)
        if folder in path.resolve().parents:
            path.unlink(missing_ok=True)
            if path.parent != folder and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()


def files(folder: Path) -> dict[str, int]:
    """Return the files in `folder`, but for those a run writes itself, with their times of change."""
    own = {folder / name for name in ("run.json", "record.json", f"{folder.name}.ipynb")}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in own]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths if path.name[0] != "."}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
