"""A host on this machine that publishes weights files, well and badly, in the place of torchvision's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from vggbench.models.origin import Origin

CONTENT = b"weights of a network " * 200_000  # several blocks


@dataclass
class Publisher:
    """Sends `files` by path; a path in `announced` says that more bytes come than do."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    announced: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def publish(self, variant: str, content: bytes = CONTENT, *, name_of: bytes | None = None) -> Origin:
        """Offer a file, under a name that has the hash of other content where that is given."""
        start = hashlib.sha256(content if name_of is None else name_of).hexdigest()[:8]
        origin = origin_of(f"{variant}-{start}", self.address)
        self.files[f"/{origin.file_name}"] = content
        return origin


def origin_of(name: str, address: str) -> Origin:
    return Origin(
        name=name,
        address=f"{address}/{name}.pth",
        resize=256,
        crop=224,
        interpolation="bilinear",
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.2),
        top1_percent=70.0,
        top5_percent=None,
    )


@contextmanager
def publisher() -> Iterator[Publisher]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = False  # so that closing the server waits for them
    publisher = Publisher(f"http://127.0.0.1:{server.server_address[1]}")
    server.publisher = publisher  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        publisher: Publisher = self.server.publisher  # type: ignore[attr-defined]
        publisher.asked.append(self.path)
        if self.path not in publisher.files:
            self.send_error(404)
            return
        content = publisher.files[self.path]
        if content.startswith(b"raw:"):
            self.wfile.write(content.removeprefix(b"raw:"))
            return
        self.send_response(200)
        self.send_header("Content-Length", str(publisher.announced.get(self.path, len(content))))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""
