"""LAN hosts: the ``pool-spawner`` there is asked, over TLS, to start ``pool-worker``."""

import asyncio
import json
import ssl

from pool_client.errors import HostError
from pool_client.launchers.base import Access, HostSpec, Launched, Order
from pool_client.launchers.dialling import DialError, describe_dial, dial, place
from pool_client.launchers.lifeline import Lifeline
from pool_client.launchers.spec import in_brackets
from pool_client.links.tls import client_context
from pool_protocol import CredentialError, PoolError
from pool_protocol.messages import Spawned, SpawnQueued
from pool_protocol.security import DEFAULT

PORT = 8899
#: Pauses in seconds before another try when the spawner closes a connection without a word, as it
#: does when too many come at once.
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


class SpawnerLauncher:
    """Starts ``pool-worker`` through a ``pool-spawner``; its workers connect back over TLS.

    ``stage`` says what it is waiting for, and what to do if that lasts.
    """

    local = False

    def __init__(self) -> None:
        self.stage = ""

    async def launch(self, spec: HostSpec, order: Order) -> Launched:
        """Ask for ``pool-worker``; the spawner may let it wait for its turn: see ``stage``."""
        if spec.user or spec.options:
            user = f"{spec.user}@" if spec.user else ""
            raise HostError(
                spec.name,
                "a host with pool-spawner takes no user and no options; "
                f"for ssh, write ssh://{user}{in_brackets(spec.host)}/…",
            )
        where = place(spec.host, spec.port or PORT)
        try:
            context = client_context(order.access)
            port = await order.listen_tcp()
            lifeline = await self._reach(spec, where, context)
        except (CredentialError, DialError) as error:
            raise HostError(spec.name, str(error)) from error
        except ssl.SSLError as error:
            raise HostError(spec.name, describe_tls(error, where, _own(order.access))) from error
        except PoolError as error:
            raise HostError(spec.name, f"{where}: {error}") from error
        except OSError as error:
            raise HostError(spec.name, describe_dial(error, where)) from error
        address = place(order.access.advertise or lifeline.local_address, port)
        lifeline.on_progress = lambda message: self._progress(message, where, address)
        lifeline.hint = (
            f"it was told to connect to {address}: that must be this machine's address as seen "
            "from there; advertise= gives another"
        )
        settings = {**order.settings, "address": f"tls://{address}"}
        lifeline.spawn(spec.workers, json.dumps(settings).encode())
        return lifeline

    async def _reach(self, spec: HostSpec, where: str, context: ssl.SSLContext) -> Lifeline:
        """Connect and authenticate; try again if the spawner seems to have too much to do."""
        for pause in _PAUSES:
            try:
                return await self._try(spec, where, context)
            except (EOFError, ConnectionError):
                await asyncio.sleep(pause)
        try:
            return await self._try(spec, where, context)
        except (EOFError, ConnectionError) as error:
            raise DialError(
                f"what listens at {where} closes every connection: is it pool-spawner, and is the "
                "credential there this one? What it logs says why it refuses"
            ) from error

    async def _try(self, spec: HostSpec, where: str, context: ssl.SSLContext) -> Lifeline:
        self.stage = f"no answer at {where}: is the host up, and the port open in its firewall?"
        sock = await dial(spec.host, spec.port or PORT)
        self.stage = f"what listens at {where} does not answer: is it pool-spawner?"
        try:
            lifeline = Lifeline(sock, context, spec.host.partition("%")[0], where)
        except BaseException:
            sock.close()
            raise
        try:
            await lifeline.opened
        except BaseException:
            lifeline.kill()
            raise
        return lifeline

    def _progress(self, message: SpawnQueued | Spawned, where: str, address: str) -> None:
        if isinstance(message, Spawned):
            self.stage = (
                f"it runs there, and is to connect to {address}: that must be this machine's "
                "address as seen from there (advertise= gives another), and its firewall must let "
                "the port in (localport= gives a fixed one)"
            )
        else:
            self.stage = (
                f"pool-spawner at {where} lets it wait: {message.free} of its {message.cap} "
                "workers are free, other pools have the rest; ask for fewer, or start it there "
                "with a larger --max-workers"
            )


def _own(access: Access) -> str:
    """How messages name our own credential."""
    if access.ssl_context is not None:
        return "the one of ssl_context="
    return access.credential or f"~/{DEFAULT}"


def describe_tls(error: ssl.SSLError, where: str, own: str) -> str:
    """What a refusal by TLS means here, and what to do."""
    reason = (getattr(error, "verify_message", "") or error.reason or str(error)).lower()
    if "expired" in reason:
        return (
            f"a credential has expired (that at {where}, or {own} here): make another one with "
            "'python -m pool_spawner init', and copy it to each machine of the group"
        )
    if isinstance(error, ssl.SSLCertVerificationError) or "alert" in reason:
        said = reason.replace("_", " ")
        return (
            f"the credential at {where} is not the one here ({own}), or does not accept it: copy "
            f"the same to both, and restart pool-spawner there ({said})"
        )
    return f"what listens at {where} is not pool-spawner: it does not speak TLS 1.3 ({reason})"
