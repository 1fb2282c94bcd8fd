"""Signatures of versions with a key of one's own, where one is set: sigstore's model-signing, without a network."""

import os
from pathlib import Path
from typing import Any

from xedge.core.exceptions import ConfigurationError, ModelError
from xedge.core.extras import needed

SIGNATURE = "model.sig"
SIGN_WITH, TRUST = "XEDGE_SIGNING_KEY", "XEDGE_TRUSTED_KEY"


def sign(folder: Path) -> None:
    """Write the signature of a version's files into its folder, if `XEDGE_SIGNING_KEY` names a private key's file.

    Raises:
        ConfigurationError: the file holds no private key of an elliptic curve.
        MissingExtraError: model-signing is not installed.
    """
    if key := os.environ.get(SIGN_WITH, "").strip():
        signing, hashing = _library("signing")
        try:
            config = signing.Config().use_elliptic_key_signer(private_key=Path(key))
        except (OSError, ValueError, TypeError, AttributeError) as exc:
            raise _unusable(SIGN_WITH, key, "private", exc) from exc
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[SIGNATURE])).sign(
            folder, folder / SIGNATURE
        )


def check(folder: Path) -> None:
    """Compare a version's files with its signature, if `XEDGE_TRUSTED_KEY` names a public key's file.

    Raises:
        ModelError: there is no signature, or it is not of these files by that key.
        ConfigurationError: the file holds no public key of an elliptic curve.
        MissingExtraError: model-signing is not installed.
    """
    if not (key := os.environ.get(TRUST, "").strip()):
        return
    verifying, _ = _library("verifying")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=Path(key))
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise _unusable(TRUST, key, "public", exc) from exc
    if not (folder / SIGNATURE).is_file():
        raise ModelError(f"{folder} is not signed, and {TRUST} asks for a signature: register it with {SIGN_WITH} set")
    try:
        config.verify(folder, folder / SIGNATURE)
    except Exception as exc:  # whatever a damaged signature leads to
        raise ModelError(f"{folder / SIGNATURE} does not sign these files with the key of {TRUST} ({exc})") from exc


def _library(name: str) -> tuple[Any, Any]:
    with needed("signing", "a signed model"):
        import model_signing

        return getattr(model_signing, name), model_signing.hashing


def _unusable(variable: str, key: str, kind: str, exc: Exception) -> ConfigurationError:
    why = getattr(exc, "strerror", None) or type(exc).__name__
    return ConfigurationError(
        f"{variable}: {key} holds no {kind} key of an elliptic curve in PEM ({why}); "
        "`openssl ecparam -name prime256v1 -genkey -noout -out key.pem` makes one, and "
        "`openssl ec -in key.pem -pubout -out key.pub` its public half"
    )
