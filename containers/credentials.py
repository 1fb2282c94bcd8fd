"""Makes what a broker with TLS and users needs: a CA, the broker's certificate, and a random password for each user.

    python containers/credentials.py press-7 press-8 --host broker.example.org

Everything lies in `containers/secrets` (`--folder`), which only its owner can enter: `NAME.password` for the services
(edge, cloud), for whoever measures (lab), and for each device named, whose device_id is its user name; `passwords`
holds their hashes, for mosquitto. Called again it adds what is missing and replaces nothing, except the broker's
certificate if the hosts have changed; then restart the broker. It needs openssl and nothing else.
"""

import argparse
import base64
import hashlib
import ipaddress
import os
import secrets
import subprocess
import sys
from pathlib import Path

USERS = ("edge", "cloud", "lab")
HOSTS = ("localhost", "127.0.0.1", "::1", "broker")
ITERATIONS, DAYS = 1000, "825"


def certify(folder: Path, name: str, *extensions: str) -> None:
    """Write `NAME.key` and `NAME.crt`, signed by the folder's CA; the extensions are lines of openssl's."""
    request = ("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}")
    _openssl(folder, *request, "-keyout", f"{name}.key", "-out", f"{name}.csr")
    wanted = ("basicConstraints=CA:FALSE", "authorityKeyIdentifier=keyid", *extensions)
    signed = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", DAYS)
    lines = "\n".join(wanted).encode()
    _openssl(
        folder, *signed, "-set_serial", f"{secrets.randbits(64)}", "-extfile", "-", "-out", f"{name}.crt", say=lines
    )
    (folder / f"{name}.csr").unlink()


def make(folder: Path, devices: list[str], hosts: list[str], *, certificates: bool = False) -> list[str]:
    """Make what is missing in the folder, client certificates too if asked for; return the names of the users."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (folder / "ca.crt").exists():
        ca = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650")
        uses = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        _openssl(folder, *ca, "-subj", "/CN=xedge CA", *uses, "-keyout", "ca.key", "-out", "ca.crt")
        (folder / "ca.key").chmod(0o600)
    names = ",".join(f"{'IP' if _is_ip(host) else 'DNS'}:{host}" for host in dict.fromkeys([*HOSTS, *hosts]))
    if not (hosts_of := folder / "broker.hosts").exists() or hosts_of.read_text() != names:
        certify(folder, "broker", f"subjectAltName={names}", "extendedKeyUsage=serverAuth")
        (folder / "broker.key").chmod(0o644)  # in containers other users read what is mounted; nobody enters the folder
        hosts_of.write_text(names)
    for name in [*USERS, *devices]:
        if not name or set(name) & set("/+#:%\n\t ") or name in ("ca", "broker"):
            sys.exit(f"user {name!r}: without / + # : % and spaces, and not ca or broker")
        if not (file := folder / f"{name}.password").exists():
            file.write_text(secrets.token_urlsafe(24) + "\n")
        if certificates and not (folder / f"{name}.crt").exists():
            certify(folder, name, "extendedKeyUsage=clientAuth")
    files = sorted(folder.glob("*.password"))
    (folder / "passwords").write_text("".join(_hashed(file.stem, file.read_text().strip()) for file in files))
    return [file.stem for file in files]


def _hashed(user: str, password: str) -> str:
    """The line of mosquitto's password file, as mosquitto_passwd writes it: PBKDF2 with SHA-512."""
    salt = os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS, 64)
    return f"{user}:$7${ITERATIONS}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}\n"


def _is_ip(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _openssl(folder: Path, *words: str, say: bytes | None = None) -> None:
    done = subprocess.run(["openssl", *words], cwd=folder, input=say, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"openssl {words[0]}: {done.stderr.decode(errors='replace').strip()}")


def main() -> None:
    """Make them and say who there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("device", nargs="*", help="the device_id of a device, which is its user name")
    text = "a name or address under which the broker is reached; may be given several times"
    parser.add_argument("--host", action="append", default=[], help=text)
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).with_name("secrets"), help="by default %(default)s"
    )
    text = "NAME.crt and NAME.key too, for a broker that asks for client certificates"
    parser.add_argument("--certificates", action="store_true", help=text)
    arguments = parser.parse_args()
    users = make(arguments.folder, arguments.device, arguments.host, certificates=arguments.certificates)
    sys.stdout.write(f"{arguments.folder}: ca.crt, and the passwords of {', '.join(users)}\n")


if __name__ == "__main__":
    main()
