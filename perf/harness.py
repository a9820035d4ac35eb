"""What all scripts in perf/ share: a pinned broker under load from `ringmq bench`, and figures per message."""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "scripts/compare.d"))

import brokers  # noqa: E402
import charts  # noqa: E402
import measure  # noqa: E402

OUT = ROOT / "target/perf"


def options(about: str) -> argparse.Namespace:
    """The flags of all scripts; what follows them goes to `ringmq bench`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="ringmq", help="ringmq, relay, mosquitto, rumqttd or rmqtt [ringmq]")
    parser.add_argument("--command", help="command line of another broker, with {port}")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the observation")
    parser.add_argument("--ringmq", type=Path, help="the binary [built here]")
    parser.add_argument("--broker-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("load", nargs=argparse.REMAINDER, help="scenario and flags of ringmq bench [pairs]")
    chosen = parser.parse_args()
    chosen.load = [word for word in chosen.load if word != "--"] or ["pairs"]
    return chosen


def build(frame_pointers: bool = False) -> Path:
    """Builds the release binary; with frame pointers in a directory of its own."""
    environment, target = dict(os.environ), ROOT / "target"
    if frame_pointers:
        target = OUT / "build"
        environment["RUSTFLAGS"] = environment.get("RUSTFLAGS", "") + " -C force-frame-pointers=yes"
    command = ["cargo", "build", "--release", "--quiet", "--target-dir", str(target)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return target / "release/ringmq"


def binary_or_build() -> Path:
    """The binary that RINGMQ names, or the one that is built here."""
    named = os.environ.get("RINGMQ")
    return Path(named).resolve() if named else build()


def draw() -> None:
    """Draws the charts of docs/charts anew from perf/results."""
    charts.draw(ROOT / "perf/results", ROOT / "docs/charts")


def need(tool: str, hint: str) -> str:
    """The path of a tool, or an end with the way to get it."""
    path = shutil.which(tool, path=f"{OUT}/tools/bin:{os.environ.get('PATH', '')}")
    if not path:
        sys.exit(f"{tool} is missing: {hint}")
    return path


class Session:
    """A broker and its load, for as long as the block lasts."""

    def __init__(self, chosen: argparse.Namespace, frame_pointers: bool = False):
        self.chosen = chosen
        self.binary = (chosen.ringmq or build(frame_pointers)).resolve()
        OUT.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Session":
        chosen = self.chosen
        if chosen.command:
            broker = brokers.Broker("command", chosen.command)
        else:
            known, _ = brokers.known(self.binary, ROOT / "target/compare/cargo")
            broker = next((b for b in known if b.name == chosen.broker), None)
            if broker is None:
                sys.exit(f"{chosen.broker} is not installed")
        self.directory = tempfile.TemporaryDirectory(prefix="perf-")
        directory = Path(self.directory.name)
        directory.chmod(0o755)
        port = measure.free_port()
        argv = [w.replace("{core}", str(chosen.broker_core)) for w in broker.argv(port, measure.free_port(), directory)]
        self.broker = subprocess.Popen(
            ["taskset", "-c", str(chosen.broker_core), *argv],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + measure.START_SECONDS
        while not measure.answers(port):
            if self.broker.poll() is not None or time.monotonic() > deadline:
                measure.stop(self.broker)
                sys.exit("the broker did not start")
            time.sleep(0.02)
        self.pids = measure.process_tree(self.broker.pid)
        command = ["taskset", "-c", str(chosen.load_core), str(self.binary), "bench", *chosen.load]
        command += ["--port", str(port), "--cores", str(chosen.load_core), "--json", "--no-progress"]
        command += ["--pid", self.pid_list, "--warmup", "1", "--seconds", str(chosen.seconds + 1)]
        self.load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(1.5)
        return self

    @property
    def pid_list(self) -> str:
        """The broker's processes, as perf and strace want them."""
        return ",".join(str(pid) for pid in self.pids)

    def result(self) -> dict:
        """What the load measured; waits for its end."""
        try:
            text, _ = self.load.communicate(timeout=self.chosen.seconds + 120)
        except subprocess.TimeoutExpired:
            sys.exit("the load did not end")
        if not text:
            sys.exit("the load failed")
        result = json.loads(text)
        print(f"{result['scenario']} ({result['setup']}): {result['rate']:,.0f} {result['event']}/s", end="")
        print(f", {result['broker']['cpu_us_per_event']:.3f} µs of broker CPU each")
        if not result["clean"]:
            print("note: messages were lost or damaged in this run")
        return result

    def __exit__(self, *_) -> None:
        if self.load.poll() is None:
            self.load.kill()
        self.load.wait()
        measure.stop(self.broker)
        self.directory.cleanup()


def counts(session: Session, events: str) -> dict:
    """Counts trace events of the broker over the observation: name -> number."""
    perf = need("perf", "apt-get install linux-perf")
    command = [perf, "stat", "-x", ";", "-e", events, "-p", session.pid_list]
    command += ["--", "sleep", str(session.chosen.seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = {}
    for line in done.stderr.splitlines():
        fields = line.split(";")
        if len(fields) > 3 and fields[0].replace(".", "", 1).isdigit():
            found[fields[2]] = float(fields[0])
    if not found:
        sys.exit(f"perf counted nothing (root is needed): {done.stderr.strip()[-300:]}")
    return found


def per_message(found: dict, result: dict, seconds: float, prefix: str) -> None:
    """Prints counts a second and per delivery, largest first."""
    print(f"{'':32} {'per second':>14} {'per delivery':>14}")
    for name, count in sorted(found.items(), key=lambda item: -item[1]):
        if count:
            each = count / seconds / max(result["rate"], 1e-9)
            print(f"{name.removeprefix(prefix):32} {count / seconds:14,.0f} {each:14.4f}")


def record(file: str, row: dict) -> None:
    """Appends a row to a dated table in perf/results, with the commit."""
    path = ROOT / "perf/results" / file
    path.parent.mkdir(exist_ok=True)
    row = {"date": datetime.date.today().isoformat(), "commit": brokers.commit(), **row}
    new = not path.exists()
    with path.open("a") as table:
        if new:
            table.write(",".join(row) + "\n")
        table.write(",".join(str(value).replace(",", ";") for value in row.values()) + "\n")
