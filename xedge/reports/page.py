"""An executed notebook as one HTML page: no script, no URL, everything inside."""

import copy
import mimetypes
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xedge.core import files
from xedge.reports import estimates, fragments, pictures
from xedge.reports.conversion import as_text
from xedge.results.doubt import Doubt, said_once

PAGE_BYTES = 1_000_000  # with its figures and its data: what is beyond lies beside it
_TEXT_BYTES = 60_000  # of that, for words, code and tables
_TEMPLATES = Path(__file__).with_name("templates")
CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_KINDS = ["image/svg+xml", "image/png", "image/jpeg", "text/html", "text/markdown", "text/latex", "text/plain"]
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def page(notebook: Any, facts: Mapping[str, Any], folder: Path, failing: int | None = None) -> str:
    """Return the report as HTML: of the executed notebook, which is not changed, and of the `facts` in run.json.

    The page has all figures, and of the run's files in `folder` as many as keep it below 1 MB; the others are linked.
    `failing` is the index of the cell that ended the run.
    """
    notebook = copy.deepcopy(notebook)
    for index, cell in enumerate(notebook.cells):
        cell.metadata["xedge"] = _role(cell, index, failing)
    room = PAGE_BYTES - _TEXT_BYTES - pictures.number(notebook, facts["name"])
    title = _take_title(notebook) or facts["name"].replace("_", " ").capitalize()
    resources = {
        "xedge": {
            **facts,
            "title": title,
            "policy": CONTENT_POLICY,
            "headline": [headline(**number) for number in facts.get("headline") or []],
            "summary": summary(facts.get("estimates") or {}),
            "answer": paragraphs(facts.get("answer")),
            "conclusion": [] if facts.get("answer") else paragraphs(facts.get("conclusion")),
            "doubts": doubts(facts.get("doubts") or []),
            "severe": any(doubt["severity"] == "severe" for doubt in facts.get("doubts") or []),
            "code": any(cell.cell_type == "code" and cell.source.strip() for cell in notebook.cells),
            "parameters": [typed(row) for row in facts["parameters"]],
            "conditions": conditions(facts),
            "downloads": _downloads(facts, folder, room),
            "failing": failing is not None and failing >= 0,
        },
        "metadata": {"name": title, "path": str(folder)},
    }
    html, _ = _exporter().from_notebook_node(notebook, resources=resources)
    return fragments.finished(html)


def paragraphs(text: Any) -> list[str]:
    """Return the paragraphs of a text, between which there are empty lines."""
    return [part for part in str(text or "").split("\n\n") if part.strip()]


def doubts(recorded: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return each doubt of run.json once, as the page lists it: its severity, its text, and what to do."""
    listed = [Doubt(d["placement"], d["severity"], f"{d['about']}{d['text']}", d["remedy"]) for d in recorded]
    return [{"severity": doubt.severity, "text": str(doubt), "remedy": doubt.remedy} for doubt in said_once(listed)]


def _role(cell: Any, index: int, failing: int | None) -> str:
    if index == failing:
        return "failing"
    if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
        return "parameters"
    return "late" if failing is not None and index > failing else "done"


def _take_title(notebook: Any) -> str:
    """Take the heading that the first text begins with out of the notebook and return its words, "" without one."""
    cell = next((cell for cell in notebook.cells if cell.cell_type == "markdown"), None)
    if cell is None or not (match := re.match(r"\s*#\s+(\S.*?)[# ]*(\n|$)", cell.source)):
        return ""
    cell.source = cell.source[match.end() :]
    return re.sub(r"[*_`]+(\S.*?)[*_`]+", r"\1", match[1])


def headline(label: Any, value: Any, unit: Any = "", detail: Any = "", **_: Any) -> dict[str, str]:
    """Return a number of `run.json`'s headline as texts."""
    text = short(value) if isinstance(value, int | float) else str(value)
    return {"label": str(label), "value": text, "unit": str(unit or ""), "detail": str(detail or "")}


def short(number: float) -> str:
    """Return a number with three digits, whole ones and those above 1000 with their thousands apart."""
    if isinstance(number, bool):
        return str(number)
    if isinstance(number, int) or 1000 <= abs(number) < 1e15:
        return f"{round(number):,}".replace(",", "\u202f")
    return f"{number:.3g}"


def summary(recorded: estimates.Estimates) -> dict[str, Any]:
    """Return the summary table: `heads`, `rows` of what of and a text for each head, and if an interval is there."""
    names = list(dict.fromkeys(name for numbers in recorded.values() for name in numbers))
    texts = {of: [n.get(name, {}).get("text", estimates.NONE) for name in names] for of, n in recorded.items()}
    interval = any(number.get("low") is not None for numbers in recorded.values() for number in numbers.values())
    rows = [[of, *row] for of, row in texts.items()]
    return {"interval": interval, "heads": [estimates.heading(name) for name in names], "rows": rows}


def typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter of run.json with its values as one types them."""
    return {**row, "value": as_text(row["value"]), "default": as_text(row["default"])}


def conditions(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the conditions of a run as rows: the run's own, then those that the notebook recorded."""
    host, git, seconds = facts["host"], facts["git"], facts["duration_s"]
    rows = {
        "notebook": facts["notebook"],
        "run": facts.get("run", facts["name"]),
        "started": f"{facts['started_at'][:19].replace('T', ' ')} UTC",
        "duration": f"{seconds:.1f} s" if seconds is not None else "unknown",
        "host": f"{host['cpu']}, {host['cores']} cores, {host['os']}",
        "versions": [f"{name} {version}" for name, version in facts["versions"].items()],
        "commit": f"{git['commit'][:12]}{' with uncommitted changes' if git['dirty'] else ''}" if git else "not in git",
    }
    limits = {f"limit {limit['limit']}": limit["said"] for limit in facts.get("thresholds") or []}
    return flat(rows) + flat(facts.get("conditions") or {}) + list(limits.items())


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a mapping of mappings as rows of name and text."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += flat(value, f"{label}: ")
        else:
            rows.append((label, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


def _downloads(facts: Mapping[str, Any], folder: Path, room: int) -> list[dict[str, Any]]:
    downloads, total = [], 0
    own = files.json_text(facts).encode()  # run.json is written after the page
    for name in [*facts.get("files", []), "run.json", f"{facts['name']}.ipynb"]:
        path = folder / name
        size = len(own) if name == "run.json" else path.stat().st_size if path.is_file() else 0
        inside = (total + size) * 4 // 3 <= room and path.suffix != ".ipynb"
        href, where = quote(name), f"{file_size(size)}, beside this page"
        if inside:
            total, where = total + size, file_size(size)
        if inside and (name == "run.json" or path.is_file()):
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            content = own if name == "run.json" else path.read_bytes()
            href = f"data:{kind};base64,{fragments.as_base64(content)}"
        downloads.append({"name": name, "file": path.name, "href": href, "where": where, "inside": inside})
    return downloads


def file_size(size: int) -> str:
    """Return 425448 as "425.4 kB"."""
    if size < 1e3:
        return f"{size} bytes"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _exporter() -> Any:
    import nbconvert
    from traitlets.config import Config

    exporter: Any = nbconvert.HTMLExporter
    return exporter(
        config=Config({"NbConvertBase": {"display_data_priority": _KINDS}}),
        template_name="xedge",
        extra_template_basedirs=[str(_TEMPLATES)],
        exclude_anchor_links=True,
        filters={
            "markdown2html": _markdown(),
            "plain": _plain,
            "svg_uri": pictures.svg_uri,
            "fragment": fragments.fragment,
            "formula": partial(fragments.formula, block=True),
        },
    )


def _markdown() -> Any:
    """Return the filter for markdown: formulas become MathML, pasted images are put in."""
    from jinja2 import pass_context
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return fragments.formula(body, block=False)

        def block_math(self, body: str) -> str:
            return fragments.formula(body, block=True)

        def latex_environment(self, name: str, body: str) -> str:
            return fragments.formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", block=True)

    @pass_context
    def markdown2html(context: Any, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = Renderer(escape=False, attachments=attachments, exclude_anchor_links=True)
        return str(MarkdownWithMath(renderer=renderer).render(source))

    return markdown2html


def _plain(text: str) -> str:
    """Return terminal text as it stood at the end: no colours, of a redrawn line the last state."""
    lines = _ANSI.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines).strip("\n")
