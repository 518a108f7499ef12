"""One of the servers of the demo, as a program: `python -m lbproxy.demo.server NAME PORT`."""

from __future__ import annotations

import http.server
import socketserver
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET, /readyz included, with the name of the server."""

    protocol_version = "HTTP/1.1"
    name = ""

    def do_GET(self) -> None:
        """Called for a GET."""
        body = f"{self.name}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing: the terminal belongs to the table."""


class Listener(socketserver.ThreadingTCPServer):
    """A thread for each client; not HTTPServer, which would look up its own name in the DNS."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_args: object) -> None:
        """Say nothing: a client that is gone is expected here."""


def main(name: str, port: int) -> None:
    """Serve until told to end, or until the demo, which holds the other end of stdin, is gone."""
    Handler.name = name
    listener = Listener(("127.0.0.1", port), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
