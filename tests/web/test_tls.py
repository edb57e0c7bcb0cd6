"""The certificate in its files: what is refused, with a sentence, and what a reload changes."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.web.certificates import Certificate
from web.places import Problem
from web.tls import Tls

Make = Callable[..., Certificate]


def refused(cert: Path, key: Path) -> str:
    with pytest.raises(Problem) as caught:
        Tls(cert, key)
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_key_that_others_may_read_or_write_is_refused(certificate: Make, mode: int) -> None:
    made = certificate()
    made.key.chmod(mode)
    assert refused(made.cert, made.key) == (
        f"server.tls_key: others may read or replace {made.key}; make it ours alone, with chmod 600."
    )


def test_files_that_are_not_there_or_no_files_are_told(certificate: Make, tmp_path: Path) -> None:
    made = certificate()
    assert refused(tmp_path / "none", made.key).startswith(f"server.tls_cert: {tmp_path / 'none'} cannot be read")
    assert refused(made.cert, tmp_path / "none").startswith(f"server.tls_key: {tmp_path / 'none'} cannot be read")
    assert refused(made.cert, tmp_path) == f"server.tls_key: {tmp_path} must be a plain file."


def test_a_certificate_and_another_ones_key_are_refused(certificate: Make, tmp_path: Path) -> None:
    made, other = certificate(), certificate()
    assert "are not a certificate and its private key in PEM" in refused(made.cert, other.key)
    (tmp_path / "junk").write_text("junk")
    (tmp_path / "junk").chmod(0o600)
    assert "are not a certificate and its private key in PEM" in refused(tmp_path / "junk", made.key)
    assert "are not a certificate and its private key in PEM" in refused(made.cert, tmp_path / "junk")


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(
    certificate: Make, program: Callable[[str], str], tmp_path: Path
) -> None:
    made, locked = certificate(), tmp_path / "locked.pem"
    line = [program("openssl"), "pkcs8", "-topk8", "-in", str(made.key), "-out", str(locked), "-passout", "pass:secret"]
    subprocess.run(line, check=True, capture_output=True)
    locked.chmod(0o600)
    assert re.fullmatch(r"server.tls_key: .*locked.pem has a passphrase, .*", refused(made.cert, locked))


def test_links_are_followed_since_that_is_how_certificates_are_renewed(certificate: Make, tmp_path: Path) -> None:
    made = certificate()
    (tmp_path / "cert").symlink_to(made.cert)
    (tmp_path / "key").symlink_to(made.key)
    Tls(tmp_path / "cert", tmp_path / "key")


def test_another_one_is_offered_from_the_next_handshake_on(certificate: Make) -> None:
    made, other = certificate(), certificate()
    tls, again, new = Tls(made.cert, made.key), Tls(made.cert, made.key), Tls(other.cert, other.key)
    assert tls.differs(new)
    assert not tls.differs(again)
    tls.take(new)
    assert tls.context is new.context
    assert not tls.differs(new)
    assert tls.differs(again)
