"""The brokers that can be compared: how each is found, started and configured."""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
persistence false
max_queued_messages 0
log_dest none
"""

RUMQTTD = """\
id = 0
[router]
id = 0
max_connections = 60010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
    [v4.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = 1048576
    max_inflight_count = 500
    dynamic_filters = true
[v5.1]
name = "v5-1"
listen = "127.0.0.1:{port2}"
next_connection_delay_ms = 0
    [v5.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = 1048576
    max_inflight_count = 500
"""

RMQTT = """\
node.id = 1
rpc.server_addr = "127.0.0.1:{port2}"
log.to = "off"
plugins.dir = "{dir}"
plugins.default_startups = []
[listener.tcp.external]
addr = "127.0.0.1:{port}"
allow_anonymous = true
max_handshaking_limit = 10000
min_keepalive = 0
max_inflight = 500
max_mqueue_len = 100000
mqueue_rate_limit = "100000000,1s"
max_awaiting_rel = 1000
"""


@dataclass
class Broker:
    """A broker: its command line, with {port}, {dir} and the like still in it."""

    name: str
    command: str
    version: str = ""
    # File name -> content of what it needs in its directory.
    files: dict = field(default_factory=dict)
    # Not a broker but a bound for brokers.
    ceiling: bool = False

    def argv(self, port: int, port2: int, directory: Path) -> list:
        """Writes the configuration; returns the command line."""
        values = {"port": port, "port2": port2, "dir": directory}
        for name, text in self.files.items():
            (directory / name).write_text(fill(text, values))
        return [fill(word, values) for word in shlex.split(self.command)]


def fill(text: str, values: dict) -> str:
    """Replaces {name}; other braces stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda m: str(values.get(m[1], m[0])), text)


def version_of(command: list) -> str:
    """The first version number that a command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    found = re.search(r"\d+\.\d+(\.\d+)?[\w.-]*", done.stdout + done.stderr)
    return found[0] if found else "?"


def commit() -> str:
    """The commit of this tree, marked when the tree differs from it."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return done.stdout.strip() or "?"


def known(ringmq: Path, cargo_root: Path) -> tuple:
    """Brokers that can be started here, and lines about those that cannot."""
    found, missing = [], []
    binary = shlex.quote(str(ringmq))
    found.append(
        Broker("ringmq", f"{binary} serve --listen 127.0.0.1:{{port}} --shards 1 --cores {{core}}", commit())
    )
    found.append(Broker("relay", f"{binary} bench relay --listen 127.0.0.1:{{port}}", commit(), ceiling=True))

    def look(name: str, *extra: Path) -> str | None:
        path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/usr/local/sbin"
        return shutil.which(name, path=os.pathsep.join([str(e) for e in extra] + [path]))

    cargo = (cargo_root / "bin", Path.home() / ".cargo/bin")
    if path := look("mosquitto"):
        files = {"mosquitto.conf": MOSQUITTO}
        found.append(
            Broker("mosquitto", f"{path} -c {{dir}}/mosquitto.conf", version_of([path, "-h"]), files)
        )
    else:
        missing.append("mosquitto: apt-get install mosquitto")
    if path := look("rumqttd", *cargo):
        files = {"rumqttd.toml": RUMQTTD}
        found.append(
            Broker("rumqttd", f"{path} -c {{dir}}/rumqttd.toml -q", version_of([path, "--version"]), files)
        )
    else:
        missing.append("rumqttd: scripts/compare --cargo-install rumqttd (builds it with cargo)")
    if path := look("rmqttd", *cargo):
        files = {"rmqtt.toml": RMQTT}
        found.append(
            Broker("rmqtt", f"{path} -f {{dir}}/rmqtt.toml", version_of([path, "--version"]), files)
        )
    else:
        missing.append("rmqtt: scripts/compare --cargo-install rmqttd (builds it with cargo)")
    for name, hint in (
        ("emqx", "packages on emqx.com/downloads; then --broker emqx='emqx foreground' with its port"),
        ("nanomq", "packages on nanomq.io; then --broker nanomq='nanomq start --url nmq-tcp://127.0.0.1:{port}'"),
        ("flashmq", "packages on flashmq.org; then --broker flashmq='flashmq --config-file FILE'"),
        ("vernemq", "packages on vernemq.com; then --broker vernemq='vernemq console' with its port"),
    ):
        if not look(name):
            missing.append(f"{name}: {hint}")
        else:
            missing.append(f"{name}: installed, but not started by itself; give --broker {name}='COMMAND'")
    return found, missing


def install_mosquitto() -> None:
    """Installs Debian's mosquitto when it is missing and we may."""
    if shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:" + os.environ.get("PATH", "")):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print("installing mosquitto with apt-get", flush=True)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "mosquitto"]):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False, timeout=600)


def cargo_install(packages: list, cargo_root: Path) -> None:
    """Builds brokers from the crates registry into a directory of their own."""
    for package in packages:
        print(f"building {package} with cargo (this takes minutes)", flush=True)
        command = ["cargo", "install", package, "--root", str(cargo_root)]
        command += ["--target-dir", str(cargo_root / "build")]
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            print(f"{package} could not be built; it is left out", flush=True)
