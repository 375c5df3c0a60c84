"""pool_worker.tls: TLS that looks like a plain socket."""

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from credentials import certificate_of, make_credential, server_context, tcp_listener
from driver import PATIENCE

from pool_protocol import AuthenticationError, CredentialError
from pool_worker import tls
from pool_worker.tls import TlsSocket


def connect(ours: Path, theirs: Path) -> tuple[TlsSocket, ssl.SSLSocket]:
    """Both ends of a connection; raises what our side raises."""
    near, far = socket.socketpair()
    near.settimeout(PATIENCE)
    far.settimeout(PATIENCE)
    accepted: list[ssl.SSLSocket] = []

    def accept() -> None:
        try:
            accepted.append(server_context(theirs).wrap_socket(far, server_side=True))
        except OSError:
            far.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        sock = tls.wrap(tls.context(str(ours)), near)
        thread.join()
        if not accepted:
            sock.recv_into(bytearray(1))
            raise AssertionError("refused without a word")
    except BaseException:
        near.close()
        thread.join()
        for each in accepted:
            each.close()
        raise
    assert isinstance(sock, TlsSocket)
    return sock, accepted[0]


@pytest.fixture
def pair(credential: Path) -> Iterator[tuple[TlsSocket, ssl.SSLSocket]]:
    ours, theirs = connect(credential, credential)
    with ours, theirs:
        yield ours, theirs


Pair = tuple[TlsSocket, ssl.SSLSocket]


def read(sock: ssl.SSLSocket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := sock.recv(1 << 20)):
        data += part
    return bytes(data)


def test_bytes_both_ways(pair: Pair) -> None:
    ours, theirs = pair
    assert ours.version() == "TLSv1.3"
    ours.sendall(b"one")
    assert read(theirs, 3) == b"one"
    theirs.sendall(b"two")
    buffer = bytearray(10)
    assert ours.recv_into(buffer) == 3 and buffer[:3] == b"two"
    theirs.close()
    assert ours.recv_into(buffer) == 0


def test_nothing_to_receive(pair: Pair) -> None:
    ours, theirs = pair
    buffer = bytearray(10)
    with pytest.raises(BlockingIOError):
        ours.recv_into(buffer, 0, socket.MSG_DONTWAIT)
    assert ours.gettimeout() == PATIENCE
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv_into(buffer)
    theirs.sendall(b"two")
    ours.setblocking(True)
    assert ours.recv_into(memoryview(buffer)[2:]) == 3
    theirs.sendall(b"three")
    until_readable(ours)
    assert ours.recv_into(buffer, 0, socket.MSG_DONTWAIT) == 5
    assert ours.gettimeout() is None and buffer[:5] == b"three"


@contextmanager
def listening(context: ssl.SSLContext) -> Iterator[str]:
    """An address at which one connection after the other is taken in, or refused."""
    with tcp_listener() as listener:

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with suppress(OSError), sock:
                    context.wrap_socket(sock, server_side=True).close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"tls://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            # It ends before its socket is closed: the number may be another's then.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def until_readable(sock: socket.socket) -> None:
    import select

    assert select.select([sock], [], [], PATIENCE)[0]


def test_what_is_left_of_a_record_is_received_without_the_kernel(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(b"x" * 5000)
    buffer = bytearray(4096)
    assert ours.recv_into(buffer) == 4096
    ours.setblocking(False)
    assert ours.recv_into(buffer) == 904


def test_a_peer_that_does_not_read(pair: Pair) -> None:
    """The rest goes out when there is room, and nothing twice."""
    ours, theirs = pair
    data = os.urandom(8_000_000)
    ours.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += ours.send(data[sent:])
    assert sent < len(data)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(read(theirs, len(data))))
    thread.start()
    while sent < len(data):
        try:
            sent += ours.send(data[sent:])
        except BlockingIOError:
            continue
    thread.join()
    assert got == [data]


def test_vectors(pair: Pair) -> None:
    ours, theirs = pair
    big = os.urandom(300_000)
    for buffers in (
        [b"a", b"", memoryview(b"bc")],
        [b"a", big, b"z"],
        [big, b"z"],
        [b"x" * 10] * 600,
        [memoryview(bytes(range(80))).cast("Q"), b"z"],
    ):
        flat = b"".join(bytes(buffer) for buffer in buffers)
        want = min(len(flat), 256 * 1024)
        with ThreadPoolExecutor(1) as executor:
            sent = executor.submit(ours.sendmsg, buffers)
            assert read(theirs, want) == flat[:want]
            assert sent.result() == want


def test_no_more_is_copied_than_is_sent(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(TlsSocket, "send", lambda self, data: sizes.append(len(data)))
    pair[0].sendmsg([b"small", bytes(100_000_000), b"more"])
    assert sizes == [256 * 1024]


def test_a_connection_that_breaks(pair: Pair) -> None:
    ours, theirs = pair
    raw = socket.socket(fileno=theirs.detach())
    raw.sendall(b"this is no record")
    with pytest.raises(ConnectionError, match="TLS connection failed"):
        ours.recv_into(bytearray(10))
    raw.close()
    with pytest.raises(OSError, match=r"TLS|[Rr]eset|[Bb]roken"):
        ours.sendall(b"x" * 1_000_000)


def test_garbage_on_the_wire(credential: Path) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ConnectionError, match="TLS connection failed"):
            tls.wrap(tls.context(str(credential)), near)


def test_strangers(credential: Path, tmp_path: Path) -> None:
    other = make_credential(tmp_path / "other.pem")
    with pytest.raises(AuthenticationError, match="not among those accepted here"):
        connect(credential, other)


def test_a_stranger_to_them(credential: Path, tmp_path: Path) -> None:
    """We accept them, they do not accept us: they say so at the first reading."""
    folder = tmp_path / "folder"
    folder.mkdir()
    make_credential(folder / "credential.pem")
    certificate_of(credential, folder / "group.crt")
    with pytest.raises(AuthenticationError, match="does not accept the certificate of this one"):
        connect(folder, credential)


def test_a_folder_accepts_all_that_is_in_it(credential: Path, tmp_path: Path) -> None:
    own = make_credential(tmp_path / "credential.pem")
    certificate_of(credential, tmp_path / "old.crt")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "credential.pem").write_bytes(credential.read_bytes())
    certificate_of(own, theirs / "new.pem")
    assert tls.files(tmp_path) == (own, [tmp_path / "old.crt"])
    context = server_context(credential)
    context.load_verify_locations(theirs / "new.pem")
    near, far = socket.socketpair()
    thread = threading.Thread(target=lambda: context.wrap_socket(far, server_side=True).close())
    thread.start()
    with tls.wrap(tls.context(str(tmp_path)), near) as sock:
        assert sock.recv_into(bytearray(1)) == 0
    thread.join()


def test_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CredentialError, match=r"config/pool/credential.pem.*init"):
        tls.context(None)
    place = tmp_path / ".config" / "pool"
    place.mkdir(parents=True)
    make_credential(place / "credential.pem")
    assert tls.context(None).verify_mode is ssl.CERT_REQUIRED


def test_no_home_to_look_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user may be a mere number."""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(CredentialError, match=r"no home directory.*--credential"):
        tls.context(None)


def test_unusable_credentials(tmp_path: Path) -> None:
    for content in (b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nx\n"):
        bad = tmp_path / "bad.pem"
        bad.write_bytes(content)
        bad.chmod(0o600)
        with pytest.raises(CredentialError, match=r"bad.pem is no usable credential"):
            tls.context(str(bad))
    open_to_all = make_credential(tmp_path / "open.pem", 0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        tls.context(str(open_to_all))
    (tmp_path / "folder").mkdir()
    with pytest.raises(CredentialError, match=r"credential.pem"):
        tls.context(str(tmp_path / "folder"))


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_others_may_not_change_what_is_accepted(
    tmp_path: Path, credential: Path, mode: int
) -> None:
    make_credential(tmp_path / "credential.pem")
    certificate_of(credential, tmp_path / "old.crt").chmod(mode)
    with pytest.raises(CredentialError, match=r"old\.crt can be changed by others"):
        tls.context(str(tmp_path))


def test_a_folder_into_which_others_may_write(tmp_path: Path) -> None:
    make_credential(tmp_path / "credential.pem")
    tmp_path.chmod(0o777)
    with pytest.raises(CredentialError, match="others can add certificates"):
        tls.context(str(tmp_path))
