"""A real `mlflow server` that a test may kill, start again or run out of disk, and a proxy that answers badly."""

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
NO_LIMIT = resource.RLIM_INFINITY


def wait_until(holds: Callable[[], object], what: str, *, seconds: float = 120) -> None:
    """Ask again and again."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def find_free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class MlflowServer:
    """On sqlite, with the artifacts in a folder beside it."""

    def __init__(self, folder: Path, empty_database: Path) -> None:
        self.folder, self.port = folder, find_free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database, self.artifacts = folder / "mlflow.db", folder / "artifacts"
        shutil.copy(empty_database, self.database)

    def start(self) -> None:
        """Start, and wait for an answer of the API."""
        options = {
            "--backend-store-uri": f"sqlite:///{self.database}",
            "--artifacts-destination": str(self.artifacts),
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
        }
        words = [sys.executable, "-m", "mlflow", "server", *(word for option in options.items() for word in option)]
        off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                words, env=os.environ | off, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
            )
        wait_until(self.answers, "MLflow's server")

    def answers(self) -> bool:
        """Whether the API does."""
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            with urllib.request.urlopen(self.uri + SEARCH, timeout=30):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """As a crash of the machine would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def limit_files(self, num_bytes: int) -> None:
        """What a full disk is to the server: no file grows beyond that; `NO_LIMIT` makes room again."""
        processes = [psutil.Process(self.process.pid)]
        for process in [*processes, *processes[0].children(recursive=True)]:
            process.rlimit(psutil.RLIMIT_FSIZE, (num_bytes, NO_LIMIT))


class Proxy(ThreadingHTTPServer):
    """Hands requests on to a server, if `mode` lets it, and notes them."""

    daemon_threads = True

    def __init__(self, upstream: MlflowServer) -> None:
        super().__init__(("127.0.0.1", 0), ProxyHandler)
        self.upstream = upstream
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.mode: int | str = "pass on"
        """A status code to answer with; `pass on`; `slow`; `silent`: no answer; `deaf`: the answer gets lost; the end
        of a path: the first answer to a POST there gets lost."""
        self.answer_to_files_seconds = 0.0
        self.seconds_per_point = 0.0
        self.requests: list[str] = []
        self.closing = threading.Event()

    def handle_error(self, request, client_address) -> None:
        """A client that gave up is no news."""


class ProxyHandler(BaseHTTPRequestHandler):
    """One connection."""

    server: Proxy
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        mode = self.server.mode
        self.server.requests.append(f"{self.command} {self.path}")
        if mode == "silent":
            self.server.closing.wait()
            self.close_connection = True
        elif isinstance(mode, int):
            self.answer(mode, b"<html>a proxy's page</html>")
        else:
            self.server.closing.wait(0.5 if mode == "slow" else 0)
            if self.path.endswith("/log-batch"):
                self.server.closing.wait(self.server.seconds_per_point * len(json.loads(body).get("metrics", ())))
            status, content = self.ask_upstream(body)
            if self.command == "PUT":
                self.server.closing.wait(self.server.answer_to_files_seconds)
            if mode == "deaf" or (self.command == "POST" and self.path.endswith(mode)):
                if mode != "deaf":
                    self.server.mode = "pass on"
                self.close_connection = True
            else:
                self.answer(status, content)

    def ask_upstream(self, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream.port, timeout=60)
        try:
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")
            }
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *words) -> None:  # noqa: A002 - the library's name
        """Say nothing."""
