"""`xedge init`: a folder to start from, with a scenario and the notebooks, also where there is no checkout."""

import argparse
from pathlib import Path

from xedge.cli.options import Adder
from xedge.core.exceptions import ConfigurationError
from xedge.core.paths import shipped_notebooks

_STARTER = Path(__file__).with_name("starter")


def add(command: Adder) -> None:
    """Add the command."""
    sub = command("init", init, "xedge init my_study")
    sub.add_argument("folder", metavar="DIR", help="the folder; what is in it already stays as it is")


def init(arguments: argparse.Namespace) -> int:
    """Make a folder to start from: a scenario, the notebooks and their parameter files; nothing is overwritten."""
    folder = Path(arguments.folder)
    written, kept = fill(folder)
    left = f"; left as they were: {', '.join(kept)}" if kept else ""
    print(f"{folder}: {len(written)} {'file' if len(written) == 1 else 'files'} written{left}")
    print(f"Go on with:\n  cd {folder}\n  xedge report 00_quickstart\nREADME.md there says what is what.")
    return 0


def fill(folder: Path) -> tuple[list[str], list[str]]:
    """Write what a folder to start from holds and `folder` lacks; return the names written and those left alone.

    Raises:
        ConfigurationError: `folder` is a file, or cannot be written to.
    """
    notebooks = shipped_notebooks()
    sources = {path.name: path for path in sorted(_STARTER.iterdir())}
    for pattern in ("*.ipynb", "parameters/*.yaml"):
        sources |= {f"notebooks/{path.relative_to(notebooks)}": path for path in sorted(notebooks.glob(pattern))}
    written, kept = [], []
    for name, source in sources.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:  # never over a file, not even one that appears at this moment
                file.write(source.read_bytes())
            written.append(name)
        except FileExistsError as exc:
            if not path.parent.is_dir():
                raise ConfigurationError(
                    f"cannot make {folder}: {exc.filename} is a file; give another folder"
                ) from None
            kept.append(name)
        except OSError as exc:
            raise ConfigurationError(f"cannot write {path}: {exc.strerror}; give another folder") from None
    return written, kept
