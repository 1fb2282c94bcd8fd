"""The gallery: every notebook as it really ran, and a page with a picture and the conclusion of each."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xedge.core.files import read_json
from xedge.reports.notebooks import Notebook

PICTURES = {"image/svg+xml": "svg", "image/png": "png"}


@dataclass(frozen=True)
class Ran:
    """A completed run of a notebook as it is now: what run.json says, and the executed notebook."""

    facts: dict[str, Any]
    path: Path


def newest_run(notebook: Notebook, folders: list[Path]) -> Ran | None:
    """Return the newest completed run of this very source in `folders`, a VALID one if there is any."""
    runs = []
    for record in (found for folder in folders for found in folder.rglob("run.json")):
        facts = read_json(record)
        executed = record.with_name(f"{facts.get('name')}.ipynb")
        executed = executed if executed.is_file() else next(iter(record.parent.glob("*.ipynb")), executed)
        same = facts.get("notebook_sha256") == notebook.sha256 and facts.get("status") == "completed"
        if same and executed.is_file():
            runs.append(Ran(facts, executed))
    return max(
        runs, key=lambda run: (run.facts.get("verdict") in (None, "VALID"), run.facts["started_at"]), default=None
    )


def write(stage: Path, notebooks: list[Notebook], folders: list[Path]) -> list[str]:
    """Write the executed notebooks and `gallery.md` to `stage`; return the names of those that have no run yet."""
    entries, missing = [], []
    for notebook in notebooks:
        if ran := newest_run(notebook, folders):
            entries.append(_entry(stage, notebook, ran))
        else:
            missing.append(notebook.name)
    intro = (
        "Each page is one run of a notebook by `xedge report`, on the machine that it names, with all that came out."
    )
    text = ["# The notebooks as they ran", intro, *entries]
    if missing:
        names = [f"- `xedge report {name}`" for name in missing]
        text += ["## Not run yet where this site was built", "\n".join(names)]
    links = "\n".join(n.name for n in notebooks if n.name not in missing)
    text.append(f"```{{toctree}}\n:hidden:\n\n{links}\n```")
    (stage / "gallery.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return missing


def _entry(stage: Path, notebook: Notebook, ran: Ran) -> str:
    """Write one executed notebook and its picture, and return its part of the gallery's page."""
    executed = json.loads(ran.path.read_text(encoding="utf-8"))
    title, picture = notebook.name, ""
    for cell in executed["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and source.startswith("# ") and title == notebook.name:
            heading, _, rest = source.partition("\n")
            title = heading[2:].strip()
            cell["source"] = f"{heading}\n\n{_how(ran.facts)}\n\n{rest}"
        for data, about in _pictures(cell):
            cell["metadata"]["mystnb"] = {"image": {"alt": about.get("alt", "Figure")}}
            picture = picture or _save(stage, notebook.name, data, about)
    (stage / f"{notebook.name}.ipynb").write_text(json.dumps(executed), encoding="utf-8")
    conclusion = str(ran.facts.get("answer") or ran.facts.get("conclusion") or "").partition("\n\n")[0]
    parts = [f"## [{title}]({notebook.name}.ipynb)", picture, conclusion, _how(ran.facts)]
    return "\n\n".join(filter(None, parts))


def _pictures(cell: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for output in cell.get("outputs", []):
        kind = next((kind for kind in PICTURES if kind in output.get("data", {})), None)
        if kind:
            yield (kind, "".join(output["data"][kind])), output.get("metadata", {}).get(kind, {})


def _save(stage: Path, name: str, data: tuple[str, str], about: dict[str, Any]) -> str:
    kind, content = data
    path = stage / f"{name}.{PICTURES[kind]}"
    path.write_bytes(content.encode() if kind == "image/svg+xml" else base64.b64decode(content))
    alt = about.get("alt", "Figure").replace('"', "'").replace("\n", " ")
    return f"```{{image}} {path.name}\n:alt: {alt}\n:class: gallery-picture\n:target: {name}.html\n```"


def _how(facts: dict[str, Any]) -> str:
    host = facts["host"]
    words = [f"`{facts['command']}`", f"{facts['started_at'][:10]}", f"{facts['duration_s']:.0f} s"]
    words.append(f"{host['cpu']}, {host['cores']} cores")
    if facts.get("verdict"):
        words.append(f"**{facts['verdict']}**")
    return " · ".join(words)
