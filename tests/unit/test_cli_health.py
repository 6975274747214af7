"""`edgeproxy health`: it tells a registry that is well from one that is not, at every kind of address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edgeproxy.cli import app
from tests.running import free_ports, serving, temporary_folder


def health(*options: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["health", *options], env=environment)


@contextmanager
def answering(status: int, body: bytes = b"{}") -> Iterator[int]:
    """Be a registry that is not well; give the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_running_registry_is_well_and_ready_and_once_it_has_stopped_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving("filesystem") as registry:
        monkeypatch.chdir(registry.folder)
        well = health(EDGEPROXY_BIND=registry.host)
        ready = health("--ready", EDGEPROXY_BIND=registry.host)
    stopped = health(EDGEPROXY_BIND=registry.host)

    assert (well.exit_code, well.stdout) == (0, '{"status":"ok"}\n')
    assert ready.exit_code == 0
    assert '"store":{"ok":true' in ready.stdout
    assert stopped.exit_code == 1
    assert f"nothing answers at {registry.host}: " in stopped.stderr


async def test_a_unix_socket_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with temporary_folder() as folder:
        monkeypatch.chdir(folder)
        here = f"unix:{folder / 'socket'}"
        missing = health(EDGEPROXY_BIND=here)
        with closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(str(folder / "socket"))
            listener.listen()
            thread = threading.Thread(target=_answer_once, args=(listener,))
            thread.start()
            well = health(EDGEPROXY_BIND=here)
            thread.join()

    assert missing.exit_code == 1
    assert (well.exit_code, well.stdout) == (0, "fine\n")


def _answer_once(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        assert connection.recv(4096).startswith(b"GET /healthz HTTP/1.1\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine")


def test_every_address_of_the_machine_means_this_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with answering(200) as port:
        assert health(EDGEPROXY_BIND=f"0.0.0.0:{port}").exit_code == 0


def test_an_answer_other_than_200_is_not_well_and_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with answering(503, b'{"status":"unavailable"}') as port:
        result = health("--ready", EDGEPROXY_BIND=f"127.0.0.1:{port}")

    assert result.exit_code == 1
    assert result.stderr == f'edgeproxy: 127.0.0.1:{port} answers 503: {{"status":"unavailable"}}\n'


def test_what_speaks_no_http_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=_hang_up, args=(listener,))
        thread.start()
        result = health(EDGEPROXY_BIND=f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()

    assert result.exit_code == 1
    assert "speaks no HTTP" in result.stderr


def _hang_up(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"SSH-2.0-OpenSSH\r\n")


@pytest.mark.parametrize("named", [True, False])
def test_the_settings_file_says_where_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    file = tmp_path / ("other.toml" if named else "edgeproxy.toml")
    options = ("--config", str(file)) if named else ()
    monkeypatch.chdir(tmp_path)
    (closed,) = free_ports(1)
    with answering(200) as port:
        file.write_text(f'bind = "127.0.0.1:{port}"\n')
        from_file = health(*options)
        from_environment = health(*options, EDGEPROXY_BIND=f"127.0.0.1:{closed}")

    assert from_file.exit_code == 0
    assert from_environment.exit_code == 1


@pytest.mark.parametrize(
    ("bind", "told"),
    [("5000", "is not an address"), ("unix:socket", "a unix socket is an absolute path")],
)
def test_an_address_that_cannot_be_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bind: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = health(EDGEPROXY_BIND=bind)

    assert result.exit_code == 2
    assert result.stderr.startswith("edgeproxy: environment: EDGEPROXY_BIND ")
    assert told in result.stderr


def test_a_settings_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = health("--config", str(tmp_path / "none.toml"))

    assert result.exit_code == 2
    assert "none.toml" in result.stderr
