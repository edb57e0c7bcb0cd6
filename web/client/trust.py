"""Which certificate a client believes: those of the system, or the ones in a file that somebody named."""

from __future__ import annotations

import ssl
from pathlib import Path

from web.places import Problem

__all__ = ["trust"]


def trust(ca_file: Path) -> ssl.SSLContext:
    """A context that believes what is in `ca_file` (PEM) and nothing else: authorities, or the very certificate that a
    house shows. The name in the certificate must still be the one in the address. Raises Problem.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:  # an SSLError is one
        why = error.strerror or "it is no PEM"
        raise Problem(f"ENGINEHOUSE_CA_FILE: {ca_file} cannot be used ({why}); name a file of certificates.") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
