"""The `xedge` command: a face over the library, with no logic of its own."""

import argparse
import logging
import sys
from collections.abc import Sequence

import xedge
from xedge.cli import batch, init, kept, models, options, serving, text
from xedge.core import logs
from xedge.core.exceptions import ConfigurationError, ModelError, XedgeError
from xedge.core.extras import needed
from xedge.core.plain import escaped

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    example = "xedge report 02_edge_vs_cloud -p rate_hz 200"
    whole = argparse.ArgumentParser(prog="xedge", **options.described(xedge.__doc__ or "", example))
    whole.add_argument("--version", action="version", version=f"xedge {xedge.__version__}")
    options.add_logging(whole, None, "warning")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    init.add(options.adder(commands))
    about = "Run a service in the foreground until SIGTERM or Ctrl-C."
    example = "xedge serve edge --model anomaly_detector"
    service = options.add_group(commands, "serve", "SERVICE", about, example)
    serving.add(options.adder(commands), service)
    batch.add(options.adder(commands))
    kept.add(options.adder(commands))
    models.add(options.adder(commands))
    about = "List, promote or roll back versions of the text models."
    text.add(service, options.add_group(commands, "registry", "COMMAND", about, "xedge registry list topic"))
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done; 1 it failed; 2 what was asked cannot be done as asked; 3 done, but a measurement is not VALID;
    4 done, but a number has crossed its limit (--fail-if); 130 interrupted.
    """
    arguments = parser().parse_args(argv)
    try:
        logs.begin(*options.log_settings(arguments))
        with needed("lab", "this command"):
            return int(arguments.command(arguments))
    except XedgeError as exc:
        print(escaped("\n".join([f"xedge: {exc}", *getattr(exc, "__notes__", [])])), file=sys.stderr)
        return EXIT_USAGE if isinstance(exc, ConfigurationError | ModelError) else EXIT_FAILED
    except OSError as exc:  # a full disk, a folder that may not be written, a pipe nobody reads
        logging.getLogger(__name__).debug("what failed", exc_info=True)
        where = f": {exc.filename}" if exc.filename is not None else ""
        said = [f"xedge: {exc.strerror or exc}{where}", *getattr(exc, "__notes__", [])]
        print(escaped("\n".join(said)), file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt as exc:
        print("\n".join(["xedge: interrupted", *getattr(exc, "__notes__", [])]), file=sys.stderr)
        return EXIT_INTERRUPTED
