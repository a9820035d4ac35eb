"""One measurement: a fresh, pinned broker, one scenario of `ringmq bench`, the result as a dict."""

import json
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from brokers import Broker

START_SECONDS = 15
OPEN_FILES = 1 << 20
# Said of the relay where it is no ceiling.
NOT_MEASURED = "not a ceiling for this"


def raise_file_limit() -> None:
    """Lets brokers have as many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (max(hard, OPEN_FILES), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return
        except (ValueError, OSError):
            continue


@dataclass(frozen=True)
class Scenario:
    """A row of the table: what `ringmq bench` is asked for."""

    key: str
    title: str
    flags: tuple
    # "rate", "latency", "tail" (a latency that is no other broker's measure) or "memory": what the cell shows.
    shows: str = "rate"
    # Whether the relay, which stores nothing and has no trie, is a ceiling for it.
    relayed: bool = True
    # The scenario at half of whose rate this one runs, the broker's own in the same round.
    half_of: str | None = None

    def at_half(self, before: dict) -> "Scenario":
        """This at half of the rate that was measured before."""
        return replace(self, flags=(*self.flags, "--rate", str(round(before["rate"] / 2))))

    @property
    def window(self) -> str | None:
        """Messages under way a publisher, where the load is bounded by it."""
        flags = list(self.flags)
        return flags[flags.index("--window") + 1] if "--window" in flags else None


# The smallest set: a figure of every kind.
QUICK = (
    Scenario("pairs-qos0", "10 pairs, QoS 0", ("pairs", "--qos", "0", "--window", "1000")),
    Scenario("pairs-qos1", "10 pairs, QoS 1", ("pairs", "--qos", "1", "--window", "200")),
    Scenario("pairs-qos2", "10 pairs, QoS 2", ("pairs", "--qos", "2", "--window", "20")),
    Scenario("fan-out", "1 to 100 fan-out, QoS 0", ("fan-out", "--window", "500")),
    Scenario("fan-in", "fan-in 10 to 1 with wildcard, QoS 0", ("fan-in", "--window", "500")),
    Scenario("shared", "shared group, 10 to 10, QoS 0", ("shared", "--window", "500")),
    Scenario("idle", "idle subscribed connection", ("idle", "--connections", "10000"), "memory"),
)

# The table of the README: one row at least for every target.
TABLE = QUICK + (
    Scenario("fan-out-qos1", "1 to 100 fan-out, QoS 1", ("fan-out", "--qos", "1", "--window", "100")),
    Scenario("pairs-16k", "10 pairs, QoS 0, 16 KiB", ("pairs", "--payload", "16384", "--window", "32")),
    Scenario("wildcard", "100,000 filters loaded, QoS 0", ("wildcard",), relayed=False),
    Scenario("latency", "latency at 5,000/s, QoS 1", ("latency",), "latency"),
    Scenario("half", "10 pairs, QoS 1, at half of its own rate above", ("latency",), "tail", half_of="pairs-qos1"),
    Scenario("connect", "5,000 connections", ("connect", "--connections", "5000")),
    Scenario("churn", "connect, subscribe, disconnect", ("churn",)),
)

FULL = TABLE + (
    Scenario("shared-qos1", "shared group, 10 to 10, QoS 1", ("shared", "--qos", "1", "--window", "20")),
    Scenario("pairs-v5", "10 pairs, QoS 0, MQTT 5.0", ("pairs", "--protocol", "5", "--window", "1000")),
    Scenario("pairs-4k", "10 pairs, QoS 0, 4 KiB", ("pairs", "--payload", "4096", "--window", "128")),
    Scenario("pairs-64k", "10 pairs, QoS 0, 64 KiB", ("pairs", "--payload", "65536", "--window", "8")),
    Scenario("retained", "10,000 retained, QoS 1", ("retained", "--messages", "10000"), relayed=False),
    Scenario("offline", "queue of 10,000, QoS 1", ("offline", "--messages", "10000"), relayed=False),
)


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def process_tree(pid: int) -> list:
    """A process and all that descend from it."""
    pids = [pid]
    for parent in pids:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        except OSError:
            continue
        pids += [int(child) for child in children.split()]
    return pids


def stop(process: subprocess.Popen) -> None:
    """Ends the broker and what it has started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            pass
        try:
            process.wait(timeout=5)
            return
        except subprocess.TimeoutExpired:
            continue


def measure(broker: Broker, scenario: Scenario, ringmq: Path, options) -> dict:
    """Runs one cell. The result has `error` when there is no figure."""
    if broker.ceiling and not scenario.relayed:
        return {"error": NOT_MEASURED}
    port, port2 = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        argv = ["taskset", "-c", str(options.broker_core)]
        argv += [word.replace("{core}", str(options.broker_core)) for word in broker.argv(port, port2, directory)]
        log = open(directory / "log", "w+b")
        try:
            process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory, start_new_session=True)
        except OSError as error:
            return {"error": str(error)}
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    tail = log.read()[-300:].decode(errors="replace").strip()
                    return {"error": f"did not start: {tail or 'no output'}"}
                time.sleep(0.02)
            return load(scenario, ringmq, port, process_tree(process.pid), options)
        finally:
            stop(process)
            log.close()


def load(scenario: Scenario, ringmq: Path, port: int, pids: list, options) -> dict:
    """Runs the generator against a port."""
    command = ["taskset", "-c", ",".join(str(core) for core in options.load_cores)]
    command += [str(ringmq), "bench", *scenario.flags, "--port", str(port), "--json", "--no-progress"]
    command += ["--pid", ",".join(str(pid) for pid in pids)]
    command += ["--cores", ",".join(str(core) for core in options.load_cores)]
    command += ["--threads", str(len(options.load_cores))]
    command += ["--seconds", str(options.seconds), "--warmup", str(options.warmup)]
    command += ["--quiet", "2"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds + 120)
    except subprocess.TimeoutExpired:
        return {"error": "the benchmark did not end"}
    if done.returncode not in (0, 1) or not done.stdout.strip():
        return {"error": done.stderr.strip()[-300:] or f"exit code {done.returncode}"}
    return json.loads(done.stdout)
