"""Topic and sentiment over HTTP: the application with its loader, the bodies, the server with its limits."""

from xedge.core.extras import needed

with needed("http", "the HTTP service"):
    from xedge.text.callers.http.app import create_app
    from xedge.text.callers.http.server import serve

__all__ = ["create_app", "serve"]
