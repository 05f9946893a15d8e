"""Object stores for tests: real servers on the loopback, and a proxy that makes them slow and unreliable."""

import base64
import hmac
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import pytest

KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The well-known key of Azure's emulators."""
START = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(words: list[str], port: int, folder: Path) -> Iterator[None]:
    """Run a server's process until its port answers, and end it afterwards."""
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder)
        try:
            deadline = time.monotonic() + START
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def s3(folder: Path) -> Iterator[tuple[str, int]]:
    """Run an S3 server with the bucket `vats`; give its URL and port."""
    for package in ("moto", "flask", "boto3"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    port = free_port()
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "moto.server",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with serving(words, port, folder):
        request(port, "PUT", "/vats")
        yield "s3://vats/cellar", port


def s3_options(port: int) -> dict[str, str]:
    return {
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "aws_region": "us-east-1",
        "aws_endpoint_url": f"http://127.0.0.1:{port}",
        "aws_allow_http": "true",
        "aws_virtual_hosted_style_request": "false",
    }


@contextmanager
def azure(folder: Path) -> Iterator[tuple[str, int]]:
    """Run Azurite with the container `vats`; give its URL and port."""
    found = os.environ.get("AZURITE") or shutil.which("azurite-blob")
    if found is None:
        pytest.skip("azurite-blob (npm install azurite) is neither on PATH nor in $AZURITE")
    port = free_port()
    words = [found, "--blobPort", str(port), "--location", str(folder), "--skipApiVersionCheck"]
    with serving([*words, "--silent"], port, folder):
        make_container(port)
        yield "az://vats/cellar", port


def azure_options(port: int) -> dict[str, str]:
    return {
        "azure_storage_account_name": "devstoreaccount1",
        "azure_storage_account_key": KEY,
        "azure_storage_endpoint": f"http://127.0.0.1:{port}/devstoreaccount1",
        "azure_allow_http": "true",
    }


def make_container(port: int) -> None:
    """Make the container `vats`, signed with the emulator's key.

    Format: https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    """
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    said = "".join(f"{name}:{value}\n" for name, value in headers.items())
    place = "/devstoreaccount1/devstoreaccount1/vats\nrestype:container"
    text = "PUT" + "\n" * 12 + said + place
    digest = hmac.new(base64.b64decode(KEY), text.encode(), "sha256").digest()
    headers["Authorization"] = f"SharedKey devstoreaccount1:{base64.b64encode(digest).decode()}"
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("PUT", "/devstoreaccount1/vats?restype=container", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    connection.close()


def request(port: int, method: str, path: str) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    assert connection.getresponse().status < 300
    connection.close()


Fault = Callable[[int], str]
"""Number of a read -> "" or what goes wrong with it: "error", "drop" or "short"."""


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    port, latency, count, lock = 0, 0.0, 0, Lock()
    fault: Fault

    def _pass(self) -> None:
        cls = type(self)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(cls.latency)
        wrong = ""
        if self.command == "GET":
            with cls.lock:
                number, cls.count = cls.count, cls.count + 1
            wrong = cls.fault(number)
        if wrong == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if wrong == "error":
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        onward = HTTPConnection("127.0.0.1", cls.port, timeout=30)
        onward.request(self.command, self.path, body, dict(self.headers.items()))
        answer = onward.getresponse()
        data = answer.read()
        onward.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (
                "transfer-encoding",
                "connection",
                "content-length",
                "date",
                "server",
            ):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if wrong == "short":
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def proxy(port: int, *, latency: float = 0.0, fault: Fault = lambda _: "") -> Iterator[int]:
    """Stand before a server, answer late, and let some reads fail; give the proxy's port."""
    names = {"port": port, "latency": latency, "fault": staticmethod(fault), "count": 0}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), names))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
