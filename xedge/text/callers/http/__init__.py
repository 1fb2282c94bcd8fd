"""Topic and sentiment over HTTP: the application, bodies, keys and rates, the server with its limits."""

from xedge.core.extras import needed

with needed("http", "the HTTP service"):
    from xedge.text.callers.http.app import create_app
    from xedge.text.callers.http.keys import Keys, find_keys
    from xedge.text.callers.http.server import serve

__all__ = ["Keys", "create_app", "find_keys", "serve"]
