"""The credential that ``init`` makes."""

import datetime
import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from pool_protocol import CredentialError
from pool_spawner import making
from pool_spawner.making import make_credential


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_and_its_certificate(credential: Path) -> None:
    pem = credential.read_bytes()
    key = load_pem_private_key(pem, None)
    certificate = x509.load_pem_x509_certificate(pem)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(certificate)


def test_its_extensions(credential: Path) -> None:
    certificate = x509.load_pem_x509_certificate(credential.read_bytes())
    extensions = certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca, "it makes no further certificates"
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature and not usage.value.key_cert_sign
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value


def test_it_is_good_for_long_and_for_clocks_that_are_late(credential: Path) -> None:
    certificate = x509.load_pem_x509_certificate(credential.read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc < now - datetime.timedelta(days=1)
    assert certificate.not_valid_after_utc > now + datetime.timedelta(days=3650)


def test_no_two_are_alike(credential: Path, other: Path) -> None:
    assert credential.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o002])
def test_only_its_user_can_read_it_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        path = make_credential(tmp_path / "deep" / "folder" / "credential.pem")
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700


def test_a_folder_that_is_there_gets_it_and_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    assert make_credential(tmp_path) == tmp_path / "credential.pem"
    assert mode(tmp_path) == 0o750


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "credential.pem"
    if kind == "file":
        path.write_text("precious")
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CredentialError, match="exists already"):
        make_credential(path)
    assert kind == "link" or path.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists(), "a link is not followed"


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    made: list[Path] = []
    refused: list[CredentialError] = []

    def run() -> None:
        try:
            made.append(make_credential(tmp_path / "credential.pem"))
        except CredentialError as error:
            refused.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 7)
    x509.load_pem_x509_certificate(made[0].read_bytes())


def test_what_cannot_be_written_is_told_and_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making.os, "fsync", full)
    with pytest.raises(CredentialError, match="No space left"):
        make_credential(tmp_path / "credential.pem")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CredentialError, match="cannot make"):
        make_credential(tmp_path / "file" / "credential.pem")
