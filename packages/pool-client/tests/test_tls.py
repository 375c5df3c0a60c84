"""Contexts from a credential, and a socket that behaves as a plain one."""

import os
import socket
import ssl
from pathlib import Path

import pytest
from credentials import make_credential
from tls_model import access, dialling

from pool_client.launchers import Access
from pool_client.links.tls import TlsSocket, client_context, find_credential, server_context
from pool_protocol import AuthenticationError, CredentialError


@pytest.fixture
def credential(tmp_path: Path) -> Path:
    return make_credential(tmp_path / "credential.pem")


# -- where the credential is


def test_a_missing_credential_says_how_to_make_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (None, "~/other.pem", str(tmp_path / "absent")):
        with pytest.raises(CredentialError, match="python -m pool_spawner init"):
            find_credential(path)
    with pytest.raises(CredentialError, match=str(tmp_path / ".config/pool/credential.pem")):
        client_context(Access())


def test_the_usual_place(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".config" / "pool"
    place.mkdir(parents=True)
    made = make_credential(place / "credential.pem")
    assert find_credential(None) == (made, [])
    assert find_credential("~/.config/pool/credential.pem") == (made, [])


def test_a_folder_holds_ones_own_and_what_else_is_accepted(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    own = make_credential(folder / "credential.pem")
    other = make_credential(folder / "other.pem")
    found, accepted = find_credential(str(folder))
    assert found == own
    assert accepted == sorted([own.with_suffix(".crt"), other, other.with_suffix(".crt")])


def test_a_folder_without_ones_own(tmp_path):
    with pytest.raises(CredentialError, match=r"there is no credential at .*credential\.pem"):
        find_credential(str(tmp_path))


def test_one_that_we_may_not_look_at(credential, monkeypatch):
    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    with pytest.raises(
        CredentialError, match=r"credential at .* cannot be read \(Permission denied"
    ):
        find_credential(str(credential))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_one_that_others_can_read_is_refused(credential, mode):
    credential.chmod(mode)
    with pytest.raises(CredentialError, match="chmod 600"):
        server_context(access(credential))


def test_a_folder_in_which_others_can_put_theirs_is_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    make_credential(folder / "credential.pem")
    folder.chmod(0o777)
    with pytest.raises(CredentialError, match="chmod 700"):
        find_credential(str(folder))


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_others_may_not_change_what_is_accepted(tmp_path, mode):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    make_credential(folder / "credential.pem")
    make_credential(folder / "other.pem").with_suffix(".crt").chmod(mode)
    with pytest.raises(CredentialError, match=r"other\.crt can be changed by others"):
        find_credential(str(folder))


def test_one_of_another_user_is_refused(credential, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    os.chown(credential, 54321, -1)
    with pytest.raises(CredentialError, match="belongs to user 54321"):
        find_credential(str(credential))


def test_what_is_no_credential_is_named(credential):
    credential.write_text("nonsense")
    with pytest.raises(CredentialError, match="cannot be used as a credential"):
        client_context(access(credential))


# -- contexts of the user's own


def test_a_context_of_ones_own(credential):
    made = []

    def make(purpose):
        made.append(purpose)
        server = purpose is ssl.Purpose.CLIENT_AUTH
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    given = Access(ssl_context=make)
    for context in (client_context(given), server_context(given)):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert made == [ssl.Purpose.SERVER_AUTH, ssl.Purpose.CLIENT_AUTH]


def test_one_that_lets_anybody_in_is_refused():
    def open_door(purpose):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    with pytest.raises(CredentialError, match="lets anybody in"):
        server_context(Access(ssl_context=open_door))


def test_what_is_no_context_is_named():
    with pytest.raises(CredentialError, match=r"gave 7, which is no ssl\.SSLContext"):
        server_context(Access(ssl_context=lambda purpose: 7))


# -- the socket


@pytest.fixture
def ends(credential):
    """Our end of a connection, and the peer's bare one."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(20)
    secured = server_context(access(credential)).wrap_socket(
        ours, server_side=True, do_handshake_on_connect=False
    )
    yield secured, theirs
    secured.close()
    theirs.close()


def read(sock: TlsSocket) -> bytes:
    buffer = bytearray(1000)
    return bytes(buffer[: sock.recv_into(buffer)])


def greet(sock: TlsSocket, peer: ssl.SSLObject, theirs: socket.socket, into, out) -> None:
    """Let both do their handshake."""
    while True:
        try:
            peer.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            done = False
        theirs.sendall(out.read())
        with pytest.raises(BlockingIOError):
            read(sock)
        if done:
            return
        into.write(theirs.recv(65536))


def peer_of(credential):
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    return dialling(credential).wrap_bio(into, out), into, out


def test_reading_does_the_handshake_and_blocks_as_a_plain_socket(ends, credential):
    sock, theirs = ends
    with pytest.raises(BlockingIOError):
        read(sock)
    peer, into, out = peer_of(credential)
    greet(sock, peer, theirs, into, out)
    peer.write(b"hello")
    theirs.sendall(out.read())
    assert read(sock) == b"hello"
    with pytest.raises(BlockingIOError):
        read(sock)
    assert sock.send(b"there") == 5
    into.write(theirs.recv(65536))
    assert peer.read(1000) == b"there"


def test_writing_more_than_fits_blocks_as_a_plain_socket(ends, credential):
    sock, theirs = ends
    peer, into, out = peer_of(credential)
    greet(sock, peer, theirs, into, out)
    with pytest.raises(BlockingIOError):
        while True:
            assert sock.send(bytes(100_000)) > 0


def test_the_end_of_the_stream(ends, credential):
    sock, theirs = ends
    peer, into, out = peer_of(credential)
    greet(sock, peer, theirs, into, out)
    theirs.close()
    assert read(sock) == b""


def test_garbage_in_the_middle_is_an_oserror(ends, credential):
    sock, theirs = ends
    peer, into, out = peer_of(credential)
    greet(sock, peer, theirs, into, out)
    peer.write(b"hello")
    theirs.sendall(out.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert read(sock) == b"hello"
    with pytest.raises(ssl.SSLError):
        read(sock)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 600, b"poolwire" * 20])
def test_who_does_not_speak_tls_is_refused(ends, data):
    sock, theirs = ends
    theirs.sendall(data)
    with pytest.raises(AuthenticationError, match="no TLS between us"):
        read(sock)


@pytest.mark.parametrize("kind", ["none", "wrong"])
def test_who_has_no_right_certificate_is_refused(ends, kind, tmp_path):
    sock, theirs = ends
    if kind == "none":
        peer, into, out = peer_of(None)
    else:
        context = dialling(make_credential(tmp_path / "wrong.pem"))
        context.verify_mode = ssl.CERT_NONE
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        peer = context.wrap_bio(into, out)
    with pytest.raises(ssl.SSLWantReadError):
        peer.do_handshake()
    theirs.sendall(out.read())
    with pytest.raises(BlockingIOError):
        read(sock)
    into.write(theirs.recv(65536))
    peer.do_handshake()
    peer.write(b"hello")
    theirs.sendall(out.read())
    with pytest.raises(AuthenticationError, match="no TLS between us"):
        read(sock)


def test_an_older_tls_is_refused(ends, credential):
    sock, theirs = ends
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(str(credential))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    theirs.sendall(out.read())
    with pytest.raises(AuthenticationError):
        read(sock)


def test_what_comes_without_tls_is_never_handed_on(ends, monkeypatch):
    """Early versions of Python do so for a peer that was gone before TLS began."""
    sock, _ = ends
    monkeypatch.setattr(ssl.SSLSocket, "recv_into", lambda self, buffer, n=None, flags=0: 5)
    with pytest.raises(AuthenticationError, match="does not speak TLS"):
        read(sock)
