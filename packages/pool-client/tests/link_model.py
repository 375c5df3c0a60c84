"""What the tests of links and listeners share: a peer that blocks, and a record of events."""

import socket

from pool_protocol import Connection, DialerHandshake, Identity, Role
from pool_protocol.testing import LAUNCH, TOKEN


class Record:
    """The events of links, in order."""

    def __init__(self):
        self.opened_links = []
        self.messages = []
        self.ends = []
        self.on_message = None

    def opened(self, link):
        self.opened_links.append(link)

    def received(self, link, messages):
        assert messages
        assert not self.ends
        self.messages += messages
        if self.on_message:
            self.on_message(link, messages)

    def ended(self, link, error):
        self.ends.append(error)


class Peer:
    """A worker's or supervisor's end, on a blocking socket."""

    def __init__(self, sock, role=Role.TASK, token=TOKEN, launch=LAUNCH):
        self.sock = sock
        sock.settimeout(20)
        identity = Identity(launch, role, 0 if role is Role.CONTROL else 1)
        self.connection = Connection(DialerHandshake(identity, token))

    @classmethod
    def dial(cls, address, **settings):
        """Connect to a listener."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return cls(sock, **settings)

    def flush(self):
        """Write all that there is to write."""
        for buffer in self.connection.take():
            self.sock.sendall(buffer)

    def receive(self):
        """The messages of one read; None at the end of the stream."""
        count = self.sock.recv_into(self.connection.get_buffer())
        return self.connection.received(count) if count else None

    def shake_hands(self):
        """Prove who this is. Raises what the connection raises."""
        self.flush()
        while self.connection.state.value == "handshake":
            if self.receive() is None:
                raise EOFError
        self.flush()

    def messages(self, count):
        """Read so many messages."""
        found = []
        while len(found) < count:
            more = self.receive()
            assert more is not None, f"the stream ended after {len(found)} of {count} messages"
            found += more
        return found

    def at_end(self):
        """Wait for the end of the stream; what came before is dropped."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self):
        self.sock.close()
