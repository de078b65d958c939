"""HTTP servers that share an address, and end without losing what they accepted."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from adatom.inference.serving import listener
from adatom.inference.serving.errors import ServiceError
from adatom.inference.serving.listener import Listener

pytestmark = pytest.mark.skipif(not listener.SPREADS, reason="only Linux spreads connections")


def named(name, entered=None, leave=None):
    """Return an application that tells its name, at ``/slow`` only when it may leave."""

    async def answer(request):
        if request.url.path == "/slow":
            entered.set()
            await asyncio.to_thread(leave.wait, 30)
        return PlainTextResponse(name)

    return Starlette(routes=[Route("/", answer), Route("/slow", answer)])


def ask(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def ask_again(port):
    while True:
        with suppress(http.client.RemoteDisconnected, ConnectionResetError):
            return ask(port)


def test_connections_go_to_all_who_listen_and_survive_the_end_of_one(free_port):
    port, entered, leave = free_port, threading.Event(), threading.Event()
    first = Listener(named("first", entered, leave), "127.0.0.1", port, drain=30)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(ask, port, "/slow")
        assert entered.wait(30)
        second = Listener(named("second"), "127.0.0.1", port, drain=30)
        try:
            assert {ask(port) for _ in range(64)} == {"first", "second"}
            ending = pool.submit(first.close)
            # A connection that was not used yet may be closed; clients open another one.
            while "first" in {ask_again(port) for _ in range(32)}:
                pass
            assert not ending.done()
            leave.set()
            assert slow.result(30) == "first"
            ending.result(30)
            assert (first.alive, second.alive) == (False, True)
        finally:
            leave.set()
            second.close()


def test_an_address_of_somebody_else_is_refused():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServiceError, match=f"Nothing can listen on 127.0.0.1:{port}"):
            Listener(named("late"), "127.0.0.1", port, drain=1)
