"""The licences of everything that xedge brings with it, as installed: a page of the site, and `make licences`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: What a licence's name must have in it to be known as one that asks for no more than a notice …
FREE = r"MIT|0?BSD|BSL-1|Apache|PSF|Python Software Foundation|ISC|HPND|Unlicen[sc]e|Zlib|CC0|Public Domain"
#: … or that the changed files of the package itself stay free: nothing of it is changed here.
OF_FILES = r"MPL|Mozilla Public|LGPL(?:v\d)?|Lesser General Public|EPL|Eclipse Public"
KNOWN = re.compile(rf"\b(?:{FREE}|{OF_FILES})(?![A-Za-z])", re.IGNORECASE)
FORBIDDEN = re.compile(
    r"\b(?:A?GPL|Affero|(?<!Lesser )General Public|SSPL|Server Side|BUSL|Commons Clause|non.?commercial|propri)",
    re.IGNORECASE,
)
#: What PyTorch's default builds for Linux bring, under a licence of NVIDIA's own.
OF_CUDA = ("nvidia-", "cuda-")
INTRODUCTION = """# Licences

Everything that `pip install "xedge[…]"` installed where this page was built, what brings it, and under which
licence it is. A test fails for a package whose licence is not known to ask for a notice at most, or for changes of that
package's own files to stay free. The one exception: PyTorch's builds with CUDA bring libraries under a licence of
NVIDIA's own (`nvidia-…`), which nothing in xedge needs.
"""


class Package(NamedTuple):
    """An installed package: its name, version and licence, and the extras of xedge that bring it, "" for all."""

    name: str
    version: str
    licence: str
    extras: tuple[str, ...]


def packages() -> list[Package]:
    """Return what is installed of all that xedge and its extras need, directly or not, sorted by name."""
    root, brought = distribution("xedge"), dict[str, set[str]]()
    for extra in ("", *(root.metadata.get_all("Provides-Extra") or [])):
        waiting = [("xedge", extra)]
        seen = set(waiting)
        while waiting:
            name, wanted = waiting.pop()
            for below in _needed(name, wanted):
                if below not in seen:
                    seen.add(below)
                    waiting.append(below)
                    brought.setdefault(below[0], set()).add(extra)
    return [_package(name, extras) for name, extras in sorted(brought.items())]


def _needed(name: str, extra: str) -> Iterator[tuple[str, str]]:
    """Yield what is installed of what a package needs here, each with the extras asked of it."""
    for line in distribution(name).requires or []:
        requirement = Requirement(line)
        below = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            distribution(below)
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        for wanted in ("", *requirement.extras):
            yield below, wanted


def _package(name: str, extras: set[str]) -> Package:
    found = distribution(name)
    return Package(name, found.version, licence_of(found), ("",) if "" in extras else tuple(sorted(extras)))


def licence_of(found: Distribution) -> str:
    """Return the licence that a package declares: as an SPDX expression, by classifiers, or in words; else ""."""
    metadata = found.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    heads = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or [] if line.startswith("License")]
    named = " OR ".join(head for head in heads if head != "OSI Approved")
    files = [found.read_text(f"licenses/{name}") or "" for name in metadata.get_all("License-File") or []]
    words = [line for text in (metadata.get("License") or "", *files) for line in text.splitlines() if line.strip()]
    return named or (words[0].strip()[:80] if words else "")


def is_fine(licence: str) -> bool:
    """Return whether one of the alternatives of a licence consists of known ones and of none that is forbidden."""
    return any(
        all(KNOWN.search(part) and not FORBIDDEN.search(part) for part in re.split(r"\s+(?:AND|and)\s+", alternative))
        for alternative in re.split(r"\s+(?:OR|or)\s+", licence)
    )


def table(listed: list[Package]) -> str:
    """Return the packages as a table in Markdown."""
    lines = ["| package | version | licence | for |", "|---|---|---|---|"]
    for name, version, licence, extras in listed:
        lines.append(f"| {name} | {version} | {licence or 'not known'} | {', '.join(extras) or 'xedge itself'} |")
    return "\n".join(lines) + "\n"


def write(stage: Path) -> None:
    """Write the page."""
    (stage / "licences.md").write_text(f"{INTRODUCTION}\n{table(packages())}", encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(table(packages()))
