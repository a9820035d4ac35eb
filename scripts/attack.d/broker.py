"""A fresh broker with one listener of each kind."""

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

CONFIG = """\
[[listener]]
address = {tcp}

[[listener]]
address = {proxy}
proxy-protocol-from = ["127.0.0.0/8"]

[[listener]]
address = {tls}
transport = "tls"
certificate = ["{keys}/server.pem"]
key = ["{keys}/server.key"]

[[listener]]
address = {websocket}
transport = "websocket"
"""


def certificate(directory: Path) -> Path:
    """A certificate that signs itself."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    command += ["-keyout", directory / "server.key", "-out", directory / "server.pem"]
    subprocess.run(command, check=True, capture_output=True)
    return directory


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ahead() -> list:
    """Words before a command that let broker and honest clients come before whatever else the machine does, if we may."""
    return ["nice", "-n", "-10"] if os.geteuid() == 0 else []


class Broker:
    """A broker for as long as the block lasts."""

    def __init__(self, program: Path, keys: Path, flags=(), config=CONFIG):
        self.program, self.keys, self.flags, self.config = program, keys, flags, config

    def __enter__(self) -> "Broker":
        self.directory = tempfile.TemporaryDirectory(prefix="attacked-")
        if "password-file" in self.config:
            passwords = Path(self.directory.name) / "passwords"
            passwords.touch(0o600)
            subprocess.run([self.program, "passwd", "-b", passwords, "ann", "right"], check=True)
        self.ports = {name: free_port() for name in ("tcp", "proxy", "tls", "websocket")}
        file = Path(self.directory.name) / "ringmq.toml"
        file.write_text(self.config.format(keys=self.keys, dir=self.directory.name, **self.ports))
        self.log = Path(self.directory.name) / "log"
        command = [*ahead(), self.program, "serve", "--config", file, *self.flags]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.ports["tcp"])).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the broker does not start: {self.said()}") from None
                time.sleep(0.02)

    def memory(self) -> float:
        """Resident megabytes."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()
