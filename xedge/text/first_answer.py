"""Serves the registered models over HTTP on a free port, asks one question, prints the answer, and ends."""

import json
import subprocess
import sys
import urllib.request

from xedge.core.exceptions import ServiceError, XedgeError
from xedge.text import get_model
from xedge.text.labels import TASKS

TEXT = "The home team won the final after a thrilling second half, and the fans are delighted."


def main(text: str = TEXT) -> int:
    """Start `xedge serve http`, post `text` to it, print how and what came of it, and end the service."""
    for task in TASKS:
        get_model(task)  # what the service would wait for, told at once
    command = [sys.executable, "-m", "xedge.cli", "--log-level", "warning", "serve", "http", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            ready = next((line for line in service.stdout if "ready on " in line), "")
            if not ready:
                raise ServiceError("the HTTP service ended before it was ready: its message is above")
            url = ready.partition("ready on ")[2].split()[0]
            body = json.dumps({"text": text})
            request = urllib.request.Request(f"{url}/predict", body.encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                reply = json.loads(answer.read())
        finally:
            service.terminate()
            service.communicate()
    print(f"POST {url}/predict\n{body}\n\n{json.dumps(reply, indent=1)}\n")  # noqa: T201
    print("Serve it with `xedge serve http`, or call xedge.text.predict_topic(text).")  # noqa: T201
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:2]))
    except XedgeError as exc:
        sys.exit(f"xedge: {exc}")
