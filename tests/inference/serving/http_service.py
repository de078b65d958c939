"""A service in this process: the real application behind a real HTTP server, in a thread."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import contextmanager

from adatom.inference.serving.app import Service, build_app
from adatom.inference.serving.counters import Counters
from adatom.inference.serving.limits import Limits
from adatom.inference.serving.models import ServedModels


class Running:
    """A service and its address."""

    def __init__(self, service, port):
        self.service = service
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, **headers):
        """Return status, headers and JSON (or text) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        given = {"Content-Type": "application/json"} | headers
        connection.request(method, path, body, given)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        kind = response.headers.get("Content-Type", "")
        return response.status, response.headers, json.loads(text) if "json" in kind else text

    def predict(self, *structures, **more):
        """Return the results for structures."""
        body = {"structures": list(structures)} | more
        status, _, answer = self.ask("POST", "/v1/predict", body)
        assert status == 200, answer
        return answer["results"]


@contextmanager
def serving(units, *, limits=None, token=None, max_waiting=1024):
    """Run a service on a free port of this machine."""
    import uvicorn

    counters = Counters()
    models = ServedModels(counters, max_waiting=max_waiting)
    for name, unit in units.items():
        models.put(name, unit)
    service = Service(models, counters, limits or Limits(), token=token)
    config = uvicorn.Config(build_app(service), host="127.0.0.1", port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(service, port)
    finally:
        server.should_exit = True
        thread.join(20)
        models.close()
