"""A link over TLS: the same, but for what lies decrypted where no loop sees it."""

from pool_client.links.keepalive import limit_silence
from pool_client.links.link import Link


class TlsLink(Link):
    """One accepted connection over TLS; its socket is a `TlsSocket`.

    A read takes what TLS holds already before it looks at the descriptor, and the loop only watches
    the descriptor. So reading goes on until nothing is left, here and there.
    """

    secure = True

    def _readable(self) -> None:
        if self._read():
            # Others have their turn; the loop may see nothing more of what TLS has read ahead.
            self._loop.call_soon(self._again)

    def _again(self) -> None:
        if not self.ended:
            self._readable()

    def _send_some(self) -> int:
        # TLS has no vectors. What was refused must come again as it is, which it does.
        return self._sock.send(self._unsent[0])

    def limit_silence(self) -> None:
        """As the base class says: the kernel does it."""
        limit_silence(self._sock)
