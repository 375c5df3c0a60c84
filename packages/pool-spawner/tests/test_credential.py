"""Where the credential is looked for, what is refused, what the context is like."""

import contextlib
import datetime
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from pool_protocol import CredentialError
from pool_protocol.security import secure
from pool_spawner.credential import default_place, find, fingerprint, server_context


@pytest.fixture
def folder(tmp_path: Path, credential: Path, other: Path) -> Path:
    """A folder with a credential and somebody else's certificate."""
    shutil.copy(credential, tmp_path / "credential.pem")
    text = other.read_text()
    (tmp_path / "old.crt").write_text(text[text.index("-----BEGIN CERTIFICATE") :])
    (tmp_path / "README").write_text("not a certificate")
    return tmp_path


def test_a_file(credential: Path) -> None:
    found = find(str(credential))
    assert (found.place, found.own, found.accepted) == (credential, credential, ())


def test_a_folder(folder: Path) -> None:
    found = find(str(folder))
    assert (found.place, found.own) == (folder, folder / "credential.pem")
    assert found.accepted == (folder / "old.crt",)


def test_the_default_is_below_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".config/pool/credential.pem"
    assert default_place() == place
    with pytest.raises(CredentialError) as error:
        find(None)
    assert str(place) in str(error.value)
    assert str(error.value).endswith("python -m pool_spawner init")


def test_a_tilde_is_the_home_and_paths_become_absolute(
    monkeypatch: pytest.MonkeyPatch, credential: Path
) -> None:
    monkeypatch.setenv("HOME", str(credential.parent))
    monkeypatch.chdir(credential.parent)
    assert find("~/credential.pem").own == find("credential.pem").own == credential


def test_a_missing_one_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match=r"no credential .* init --credential .*/nothing"):
        find(str(tmp_path / "nothing"))
    with pytest.raises(CredentialError, match=r"no credential at .*credential\.pem"):
        find(str(tmp_path))


def test_without_a_home_it_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may be a mere number."""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(CredentialError, match=r"no home directory.*--credential"):
        find(None)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o666])
def test_one_that_others_can_use_is_refused(folder: Path, mode: int) -> None:
    (folder / "credential.pem").chmod(mode)
    for place in (folder, folder / "credential.pem"):
        with pytest.raises(CredentialError, match="chmod 600"):
            find(str(place))


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_others_may_not_add_to_the_folder(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(CredentialError, match="chmod 700"):
        find(str(folder))


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_others_may_not_change_what_is_accepted(folder: Path, mode: int) -> None:
    (folder / "old.crt").chmod(mode)
    with pytest.raises(CredentialError, match="chmod go-w"):
        find(str(folder))


def test_a_certificate_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "gone.crt").symlink_to(folder / "nothing")
    with pytest.raises(CredentialError, match=r"cannot look at the credential: .*gone\.crt"):
        find(str(folder))


def test_a_key_with_a_pass_phrase_is_refused_and_nobody_is_asked(
    tmp_path: Path, credential: Path
) -> None:
    key = load_pem_private_key(credential.read_bytes(), None)
    encrypted = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    path = tmp_path / "credential.pem"
    text = credential.read_text()
    path.write_text(encrypted.decode() + text[text.index("-----BEGIN CERTIFICATE") :])
    path.chmod(0o600)
    with pytest.raises(CredentialError, match="pass phrase"):
        server_context(find(str(path)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["", "old.crt", "credential.pem"])
def test_another_users_is_refused(folder: Path, name: str) -> None:
    os.chown(folder / name, 12345, -1)
    with pytest.raises(CredentialError, match=r"12345.*chown"):
        find(str(folder))


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nxx\n"])
def test_what_is_no_credential_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credential.pem"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(CredentialError, match="no usable credential"):
        server_context(find(str(path)))


def test_the_context_speaks_tls_1_3_alone_and_asks_for_a_certificate(credential: Path) -> None:
    context = server_context(find(str(credential)))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.num_tickets == 0, "no session is resumed"


def test_the_fingerprint_is_openssls(credential: Path) -> None:
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(credential)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no openssl here")
    assert said.stdout.strip().rpartition("=")[2].replace(":", "").lower() == fingerprint(
        credential
    )


def site_authority(folder: Path, names: list[str]) -> list[Path]:
    """Folders of members whose certificates a site's own authority has signed."""
    now = datetime.datetime.now(datetime.UTC)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "our site")])

    def issue(name: x509.Name, key: ec.EllipticCurvePublicKey, ca: bool) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(root_name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(root_key, hashes.SHA256())
        )

    root = issue(root_name, root_key.public_key(), ca=True).public_bytes(Encoding.PEM)
    members = []
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        place = folder / name
        place.mkdir(mode=0o700)
        own = place / "credential.pem"
        own.touch(mode=0o600)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        signed = issue(subject, key.public_key(), ca=False)
        own.write_bytes(private + signed.public_bytes(Encoding.PEM))
        (place / "authority.crt").write_bytes(root)
        members.append(place)
    return members


def test_members_of_a_sites_own_authority_accept_each_other(tmp_path: Path) -> None:
    """Each has a certificate of its own, and the folder names the authority."""
    here, there = site_authority(tmp_path, ["here", "there"])
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    secure(client, str(here / "credential.pem"), [str(here / "authority.crt")])
    ends = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
    sides = [
        client.wrap_bio(*ends[0]),
        server_context(find(str(there))).wrap_bio(*ends[1], server_side=True),
    ]
    for _ in range(5):
        for number, side in enumerate(sides):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            ends[1 - number][0].write(ends[number][1].read())
    assert [side.version() for side in sides] == ["TLSv1.3"] * 2
    assert dict(field[0] for field in sides[1].getpeercert()["subject"])["commonName"] == "here"
