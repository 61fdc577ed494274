"""In the place of the API and the worker where servers are to be measured alone: alive, and at rest."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Live(BaseHTTPRequestHandler):
    """Answers everything with 200."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing."""


if __name__ == "__main__":
    port = os.environ.get("NOVADEX_API_PORT") or os.environ["NOVADEX_WORKER_PORT"]
    HTTPServer(("127.0.0.1", int(port)), Live).serve_forever()
