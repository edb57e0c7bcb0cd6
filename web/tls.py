"""TLS: the certificate in its files, and the context that offers it.

`load_cert_chain` on a context in use would replace the certificate and only then find that the key is another's. So a
reload makes a new context from the files, and takes it only when it is whole: connections that are open keep the old
one, the next handshake gets the new one, and wrong files change nothing.

TLS 1.2 at least, HTTP/1.1 alone (RFC 7301), no renegotiation.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
from pathlib import Path
from typing import Final

from web.places import Problem

__all__ = ["Tls"]

_MOST_BYTES: Final = 1 << 20


class Tls:
    """`context`: for the next handshake. `cert`: PEM, the server's own first; `key`: PEM, ours alone, no passphrase.

    Raises:
        Problem: a file cannot be read, is not what it should be, or others may read the key.

    """

    def __init__(self, cert: Path, key: Path) -> None:
        self.context, self._digest = _made(cert, key)

    def differs(self, other: Tls) -> bool:
        """Whether the other's files hold something else."""
        return self._digest != other._digest

    def take(self, other: Tls) -> None:
        """Offer the other's certificate from now on. Cannot fail."""
        self._digest, self.context = other._digest, other.context


def _made(cert: Path, key: Path) -> tuple[ssl.SSLContext, bytes]:
    """The context, and a digest of what the files hold."""
    digest = hashlib.sha256(_read(cert, "server.tls_cert") + b"\0" + _read(key, "server.tls_key", private=True))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])

    def passphrase() -> str:
        raise Problem(f"server.tls_key: {key} has a passphrase, and nobody is there to type it; store the key without.")

    try:
        context.load_cert_chain(cert, key, password=passphrase)
    except ssl.SSLError as error:
        why = error.reason or "no PEM"
        raise Problem(
            f"server.tls_cert: {cert} and {key} are not a certificate and its private key in PEM ({why})."
        ) from None
    return context, digest.digest()


def _read(path: Path, setting: str, *, private: bool = False) -> bytes:
    """Links are followed: that is how certificates are renewed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise Problem(f"{setting}: {path} cannot be read ({error.strerror}).") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Problem(f"{setting}: {path} must be a plain file.")
        if private and (status.st_uid not in {0, os.geteuid()} or status.st_mode & 0o077):
            raise Problem(f"{setting}: others may read or replace {path}; make it ours alone, with chmod 600.")
        return os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)
