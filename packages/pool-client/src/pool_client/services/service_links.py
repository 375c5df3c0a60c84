"""What running tasks may ask of the client: services by their names, over a connection a worker.

A service is a handler: a function of a method's name and a blob that gives the reply's blob, or an
awaitable of it. What it raises becomes the reply's error.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pool_client.services.module_service import ModuleService
from pool_protocol import Buffer, LocalProtocolError, PoolError
from pool_protocol.messages import Message, Reply, Request

if TYPE_CHECKING:
    from pool_client.links.link import Link
    from pool_client.options import Options

Handler = Callable[[str, Buffer], bytes | Awaitable[bytes]]

#: Requests of one connection that may be under way; what comes beyond is refused.
MOST_UNDER_WAY = 1024


class Services:
    """Answers the requests of all workers of a pool, on the engine's loop."""

    def __init__(self, options: "Options") -> None:
        modules = ModuleService(options.code_paths)
        self._handlers: dict[str, Handler] = {"modules": modules.answer}
        self._closers = [modules.close]
        self._under_way: dict[Link, set[asyncio.Task[None]]] = {}

    def __repr__(self) -> str:
        count = sum(map(len, self._under_way.values()))
        names = ", ".join(self._handlers)
        return f"<Services {names}: {len(self._under_way)} links, {count} requests under way>"

    def register(self, service: str, handler: Handler) -> None:
        """Offer a service.

        Args:
            service: The name by which workers ask for it.
            handler: Called on the engine's loop, with the method and the request's blob; it must
                not block.

        Raises:
            ValueError: There is one of that name.
        """
        if service in self._handlers:
            raise ValueError(f"there is a service {service!r} already")
        self._handlers[service] = handler

    # -- events of the links

    def opened(self, link: "Link") -> None:
        """A worker has opened its connection for services."""
        self._under_way[link] = set()

    def received(self, link: "Link", messages: list[Message]) -> None:
        """Requests have come in."""
        for message in messages:
            if isinstance(message, Request):  # nothing else is legal here
                self._take(link, message)
        link.flush()

    def ended(self, link: "Link", error: BaseException | None = None) -> None:
        """The worker, or the child of a task, is gone: nobody waits for the replies."""
        for task in self._under_way.pop(link, ()):
            task.cancel()

    # -- requests

    def _take(self, link: "Link", request: Request) -> None:
        handler = self._handlers.get(request.service)
        tasks = self._under_way[link]
        if handler is None:
            known = ", ".join(self._handlers)
            text = f"the client has no service {request.service!r}, only {known}"
            self._reply(link, Reply(request.number, text))
        elif len(tasks) >= MOST_UNDER_WAY:
            text = f"{MOST_UNDER_WAY} requests of this worker are under way already"
            self._reply(link, Reply(request.number, text))
        else:
            try:
                answer = handler(request.method, request.blob)
            except Exception as error:
                self._reply(link, Reply(request.number, _text(error)))
                return
            if isinstance(answer, bytes):
                self._reply(link, Reply(request.number, "", answer))
                return
            task = asyncio.ensure_future(self._await(link, request.number, answer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _await(self, link: "Link", number: int, answer: Awaitable[bytes]) -> None:
        try:
            reply = Reply(number, "", await answer)
        except Exception as error:
            reply = Reply(number, _text(error))
        self._reply(link, reply)
        link.flush()

    def _reply(self, link: "Link", reply: Reply) -> None:
        if link.ended:
            return
        try:
            link.connection.send(reply)
        except LocalProtocolError:
            raise
        except PoolError as error:  # over max_message
            link.connection.send(Reply(reply.number, str(error)))

    # -- the end

    def close(self) -> None:
        """Answer nobody any more; close what is open."""
        for link in list(self._under_way):
            self.ended(link)
            link.close()
        for close in self._closers:
            close()

    def abandon(self) -> None:
        """Close the descriptors in a forked child."""
        for link in self._under_way:
            link.abandon()


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
