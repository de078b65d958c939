"""A small hub on this machine, so that the real client of huggingface.co can be tested."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants

REPO = "facebook/UMA"


class Hub:
    """A hub with one repository.

    Attributes:
        files: Contents by path.
        token: The only one that is let in; None lets everybody in.
        digest: What the hub says about the contents; None means the truth.
        cut: Close the connection after so many bytes, once.
        ranges: ``Range`` headers of the requests for contents.
    """

    def __init__(self):
        self.files = {}
        self.token = None
        self.digest = None
        self.cut = None
        self.ranges = []
        self.requests = 0

    def refusal(self, path, authorization):
        """Return status and error code for requests without an answer, else None."""
        if self.token is not None and authorization != f"Bearer {self.token}":
            return 403, "GatedRepo"
        if not path.startswith(f"/{REPO}/resolve/"):
            return 401, "RepoNotFound"
        return None if path.split("/", 5)[5] in self.files else (404, "EntryNotFound")

    def headers_of(self, body):
        digest = self.digest or hashlib.sha256(body).hexdigest()
        names = {"X-Repo-Commit": "c" * 40, "ETag": f'"{digest}"', "X-Linked-ETag": f'"{digest}"'}
        return names | {"X-Linked-Size": str(len(body))}


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does; ``server.state`` is a :class:`Hub`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, headers, body=b"", length=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        state, path = self.server.state, self.path.split("?")[0]
        state.requests += 1
        refused = state.refusal(path, self.headers.get("Authorization"))
        if refused:
            self.answer(refused[0], {"X-Error-Code": refused[1], "X-Repo-Commit": "c" * 40})
            return
        body = state.files[path.split("/", 5)[5]]
        if self.command == "HEAD":
            self.answer(200, state.headers_of(body), length=len(body))
        else:
            self.send_contents(state, body)

    def send_contents(self, state, body):
        asked = self.headers.get("Range")
        state.ranges.append(asked)
        if asked:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            place = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            self.answer(206, state.headers_of(body) | place, body[start:])
        elif state.cut is not None:
            cut, state.cut = state.cut, None
            self.answer(200, {}, body[:cut], length=len(body))
            self.close_connection = True
        else:
            self.answer(200, state.headers_of(body), body)

    do_GET = do_HEAD  # noqa: N815 (named by the standard library)


@contextmanager
def serve_hub(monkeypatch, tmp_path):
    """Yield the state of a hub that the client is pointed to, with an empty cache and no token."""
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.state = state
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("ADATOM_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "FAIRCHEM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
