"""What an error of MLflow comes from, in one line without a password, and whether it is a refusal of the caller."""

import re

DENIED_ADVICE = "give a user who may: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def is_denied(exc: BaseException | None) -> bool:
    """Return whether a server answered that it does not know the caller (401) or does not let them in (403)."""
    while exc is not None:
        if getattr(exc, "error_code", "") in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return True
        if re.search(r"(?:error code|status code|Error:) (?:401|403)\b|\b(?:401|403) Client Error", str(exc)):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def reason_of(exc: BaseException) -> str:
    """Return what began it all, in one line and without a password."""
    while (before := exc.__cause__ or exc.__context__) is not None and not isinstance(before, LookupError):
        exc = before
    text = re.sub(r"//[^/\s@]*@", "//", " ".join(str(exc).split()))
    return f"{type(exc).__name__}: {text}" if len(text) <= 200 else f"{type(exc).__name__}: {text[:199]}…"
