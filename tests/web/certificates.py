"""Certificates for tests, made by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"


@dataclass(frozen=True)
class Certificate:
    """Two PEM files; `cert` is its own authority."""

    cert: Path
    key: Path


def make(openssl: str, folder: Path) -> Certificate:
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    line = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    line += ["-keyout", str(made.key), "-out", str(made.cert), "-subj", "/CN=localhost", "-addext", NAMES]
    subprocess.run(line, check=True, capture_output=True)
    made.key.chmod(0o600)
    return made
