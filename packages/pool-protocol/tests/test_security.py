"""TLS as this project means it, between real contexts; and which credentials are safe."""

import datetime
import os
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pool_protocol.errors import CredentialError
from pool_protocol.security import (
    DEFAULT,
    OWN,
    accepted_names,
    check_accepted,
    check_folder,
    check_private,
    secure,
)

DAY = datetime.timedelta(days=1)


def make_credential(
    path: Path,
    days: int = 1,
    name: str = "group",
    encryption: serialization.KeySerializationEncryption | None = None,
) -> Path:
    """Write a key and its self-signed certificate; ``days`` may be negative: it has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number()
    )
    builder = builder.not_valid_before(now - 3 * DAY).not_valid_after(now + days * DAY)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    certificate = builder.sign(key, hashes.SHA256())
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            encryption or serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    path.chmod(0o600)
    return path


def context(own: Path, *accepted: Path, server: bool) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    secure(made, str(own), map(str, accepted))
    return made


def shake(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[str | None, bytes]:
    """Let two contexts meet; returns the TLS version and what the client read in the end.

    With TLS 1.3 the client learns only afterwards that the server refuses its certificate, so both
    say something once they have shaken hands.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(side)
        if len(done) == len(sides):
            sides[1].write(b"welcome")
            return sides[0].version(), sides[0].read(10)
    raise AssertionError("no end of the handshake")


def test_members_of_a_group_meet_with_tls_1_3(tmp_path: Path) -> None:
    own = make_credential(tmp_path / "a.pem")
    said = shake(context(own, server=False), context(own, server=True))
    assert said == ("TLSv1.3", b"welcome")


@pytest.mark.parametrize("stranger_serves", [False, True])
def test_another_certificate_is_refused_by_either_side(
    tmp_path: Path, stranger_serves: bool
) -> None:
    member, stranger = (make_credential(tmp_path / name) for name in ("m.pem", "s.pem"))
    client, server = (member, stranger) if stranger_serves else (stranger, member)
    with pytest.raises(ssl.SSLError):
        shake(context(client, server=False), context(server, server=True))


@pytest.mark.parametrize("stranger_serves", [False, True])
def test_a_stranger_that_accepts_anybody_is_refused_too(
    tmp_path: Path, stranger_serves: bool
) -> None:
    member, stranger = (make_credential(tmp_path / name) for name in ("m.pem", "s.pem"))
    client = context(stranger if not stranger_serves else member, member, server=False)
    server = context(stranger if stranger_serves else member, member, server=True)
    if stranger_serves:
        client = context(member, server=False)
    else:
        server = context(member, server=True)
    with pytest.raises(ssl.SSLError):
        shake(client, server)


def test_no_certificate_is_refused(tmp_path: Path) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError):
        shake(bare, context(make_credential(tmp_path / "a.pem"), server=True))


@pytest.mark.parametrize("old_serves", [False, True])
def test_tls_1_2_is_refused(tmp_path: Path, old_serves: bool) -> None:
    own = make_credential(tmp_path / "a.pem")
    client, server = context(own, server=False), context(own, server=True)
    old = server if old_serves else client
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake(client, server)


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    own = make_credential(tmp_path / "a.pem", days=-1)
    with pytest.raises(ssl.SSLError):
        shake(context(own, server=False), context(own, server=True))


def test_rotation_old_and_new_are_accepted_side_by_side(tmp_path: Path) -> None:
    old, new = (make_credential(tmp_path / f"{name}.pem", name=name) for name in ("old", "new"))
    rotated = context(new, old, server=True)
    assert shake(context(old, new, server=False), rotated)[1] == b"welcome"
    with pytest.raises(ssl.SSLError):
        shake(context(make_credential(tmp_path / "x.pem"), old, new, server=False), rotated)


def test_the_file_must_be_a_credential(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        context(tmp_path / "none.pem", server=True)
    (tmp_path / "noise.pem").write_text("noise")
    with pytest.raises(ssl.SSLError):
        context(tmp_path / "noise.pem", server=True)


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    encryption = serialization.BestAvailableEncryption(b"secret")
    own = make_credential(tmp_path / "a.pem", encryption=encryption)
    with pytest.raises(CredentialError, match=r"a\.pem has a pass phrase"):
        context(own, server=True)


def status(mode: int, uid: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 1, uid, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
@pytest.mark.parametrize("uid", [0, 1000])
def test_a_private_file_of_ours_or_of_root_is_safe(mode: int, uid: int) -> None:
    check_private(status(stat.S_IFREG | mode, uid), 1000, "c.pem")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601, 0o620, 0o602])
def test_a_file_that_others_can_use_is_unsafe(mode: int) -> None:
    with pytest.raises(CredentialError, match=rf"c.pem .*mode 0{mode:o}.*chmod 600"):
        check_private(status(stat.S_IFREG | mode, 1000), 1000, "c.pem")


def test_somebody_elses_file_is_unsafe() -> None:
    with pytest.raises(CredentialError, match=r"c.pem belongs to user 1001, not to 1000.*chown"):
        check_private(status(stat.S_IFREG | 0o600, 1001), 1000, "c.pem")


@pytest.mark.parametrize("kind", [stat.S_IFDIR, stat.S_IFIFO, stat.S_IFSOCK])
@pytest.mark.parametrize("check", [check_private, check_accepted])
def test_what_is_no_file_is_unsafe(check: Callable[..., None], kind: int) -> None:
    with pytest.raises(CredentialError, match="not a file"):
        check(status(kind | 0o600, 1000), 1000, "c.pem")


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
@pytest.mark.parametrize("uid", [0, 1000])
def test_a_certificate_that_others_can_read_may_be_accepted(mode: int, uid: int) -> None:
    check_accepted(status(stat.S_IFREG | mode, uid), 1000, "a.crt")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o620, 0o602])
def test_a_certificate_that_others_can_change_is_unsafe(mode: int) -> None:
    with pytest.raises(CredentialError, match=rf"a.crt .*mode 0{mode:o}.*chmod go-w"):
        check_accepted(status(stat.S_IFREG | mode, 1000), 1000, "a.crt")


def test_a_certificate_of_somebody_elses_is_unsafe() -> None:
    with pytest.raises(CredentialError, match=r"a.crt belongs to user 1001, not to 1000.*chown"):
        check_accepted(status(stat.S_IFREG | 0o644, 1001), 1000, "a.crt")


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500])
def test_a_folder_that_only_we_can_write_is_safe(mode: int) -> None:
    check_folder(status(stat.S_IFDIR | mode, 1000), 1000, "accepted")


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_unsafe(mode: int) -> None:
    with pytest.raises(CredentialError, match=rf"accepted \(mode {mode:04o}\): chmod 700"):
        check_folder(status(stat.S_IFDIR | mode, 1000), 1000, "accepted")


def test_a_folder_is_a_folder_and_ours() -> None:
    with pytest.raises(CredentialError, match="accepted is not a folder"):
        check_folder(status(stat.S_IFREG | 0o700, 1000), 1000, "accepted")
    with pytest.raises(CredentialError, match="belongs to user 1001"):
        check_folder(status(stat.S_IFDIR | 0o700, 1001), 1000, "accepted")


def test_which_files_of_a_folder_are_accepted() -> None:
    names = ["new.pem", OWN, "README", "old.crt", ".#old.crt", ".pem", "old.crt~", "key.pem.bak"]
    assert accepted_names(names) == ["new.pem", "old.crt"]
    assert accepted_names([]) == []


def test_names() -> None:
    assert Path(DEFAULT).name == OWN
    assert not Path(DEFAULT).is_absolute()
