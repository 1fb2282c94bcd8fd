"""`make docs`: the site in build/docs, from docs/, README, docstrings and notebooks as they ran; needs no network."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

SITE = Path(__file__).resolve().parent
ROOT = SITE.parents[1]
sys.path.insert(0, str(SITE))

import gallery  # noqa: E402
import licences  # noqa: E402
import reference  # noqa: E402

from xedge.reports import run  # noqa: E402
from xedge.reports.notebooks import Notebook  # noqa: E402

#: Pages that stand elsewhere in the repository, by their names in the site.
ELSEWHERE = {"README.md": "quickstart.md", "containers/README.md": "containers.md", "models/README.md": "models.md"}
#: The order of the pages about how it works; any other page in docs/ comes after them.
ORDER = ("method", "glossary", "wire-format", "text", "models", "containers", "extending", "decisions")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def main(argv: list[str] | None = None) -> int:
    """Build the site and return Sphinx's exit status; a warning is an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs")
    parser.add_argument("--runs", type=Path, default=ROOT / "reports", help="where the notebooks' runs are looked for")
    parser.add_argument(
        "--run", nargs="*", default=["00_quickstart"], help="notebooks to run first if they have no run"
    )
    parser.add_argument("--all", action="store_true", help="run all notebooks that have no run, with their defaults")
    arguments = parser.parse_args(argv)
    out, stage = arguments.out.resolve(), arguments.out.resolve().with_name(f"{arguments.out.name}_pages")
    notebooks = [Notebook.open(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    folders = [arguments.runs.resolve(), out.with_name(f"{out.name}_runs")]
    for notebook in notebooks:
        if (arguments.all or notebook.name in arguments.run) and gallery.newest_run(notebook, folders) is None:
            run.run(notebook, out_dir=folders[-1]).raise_for_status()
    for folder in (stage, out):
        shutil.rmtree(folder, ignore_errors=True)
    stage_pages(stage)
    missing = gallery.write(stage, notebooks, folders)
    reference.write(stage)
    licences.write(stage)
    status = sphinx(stage, out)
    print(f"{out / 'index.html'}: {len(notebooks) - len(missing)} of {len(notebooks)} notebooks as they ran")
    return status


def stage_pages(stage: Path) -> None:
    """Copy the pages and pictures of docs/, and those from elsewhere, to `stage`, with links that hold there."""
    stage.mkdir(parents=True)
    pages = {path: path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    pages |= {ROOT / name: page for name, page in ELSEWHERE.items()}
    for picture in (ROOT / "docs").glob("*.png"):
        shutil.copy(picture, stage)
    for path, name in pages.items():
        text = path.read_text(encoding="utf-8")
        if name == "quickstart.md":
            text = re.sub(r"\A# .*", "# Quickstart", text)
        if name == "index.md":
            text += contents(sorted(pages.values()))
        (stage / name).write_text(relinked(text, path, pages), encoding="utf-8")


def contents(names: list[str]) -> str:
    """Return the lists of pages that the site's side bar shows."""
    own = [name.removesuffix(".md") for name in names if name not in ("index.md", "quickstart.md")]
    own.sort(key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    lists = {
        "Start": ["quickstart", "gallery"],
        "Reference": ["reference", "commands", "licences"],
        "How it works": own,
    }
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{chr(10).join(pages)}\n```\n"
        for caption, pages in lists.items()
    )


def relinked(text: str, source: Path, pages: dict[Path, str]) -> str:
    """Return Markdown whose links lead to pages of the site; a link to a file that is no page becomes its words."""

    def link(found: re.Match[str]) -> str:
        picture, words, target, place = found.groups()
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        path = Path(os.path.normpath(source.parent / target))
        if path in pages:
            return f"[{words}]({pages[path]}{place or ''})"
        if picture:
            return f"![{words}]({path.name})"
        return found[0] if not path.exists() else words  # pages that are made here, such as gallery.md, are not there

    return _LINK.sub(link, text)


def sphinx(stage: Path, out: Path) -> int:
    """Build HTML of the staged pages; the exit status is 0 only without a warning."""
    from sphinx.cmd.build import main as build

    doctrees = out.with_name(f"{out.name}_doctrees")
    shutil.rmtree(doctrees, ignore_errors=True)
    options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(SITE), "-d", str(doctrees)]
    return int(build([*options, str(stage), str(out)]))


if __name__ == "__main__":
    sys.exit(main())
