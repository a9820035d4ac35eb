#!/usr/bin/env python3
"""Acknowledged QoS 1 messages a second to a durable session, by the number of publishers and what counts as stored.

    perf/durable.py [--program target/release/ringmq] [--seconds 5] [--publishers 1,10,100,1000] [--dir DIR]

Each publisher has one message under way. The session they publish to is away, so that every message is stored. Beside it
stand the rate at which this disk flushes (fdatasync after a write of 512 bytes) and, where it is installed, Mosquitto with
persistence, which acknowledges before it stores. Then a queue is loaded, the broker started anew and the queue unloaded:
sessions times messages. `--retained N` has so many retained messages there as well, `--publishers ''` leaves the rates out.
"""
import argparse
import os
import selectors
import shutil
import socket
import struct
import subprocess
import tempfile
import time


def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def packet(first, body):
    size, length = len(body), b""
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (128 if size else 0)])
        if not size:
            return bytes([first]) + length + body


def connect(port, client_id, clean):
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(packet(0x10, text("MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + text(client_id)))
    answer = link.recv(4)
    assert answer[:1] == b"\x20" and answer[3] == 0, answer
    return link


def away(port, client_id, topic):
    """A durable session that is subscribed, and whose client is away."""
    link = connect(port, client_id, False)
    link.sendall(packet(0x82, struct.pack(">H", 1) + text(topic) + b"\x01"))
    assert link.recv(5)[:1] == b"\x90"
    link.sendall(b"\xe0\x00")
    link.close()


def acknowledged(port, publishers, seconds):
    message = packet(0x32, text("load/t") + struct.pack(">H", 1) + b"x" * 64)
    links = [connect(port, f"publisher-{n}", True) for n in range(publishers)]
    selector = selectors.DefaultSelector()
    for link in links:
        link.setblocking(False)
        selector.register(link, selectors.EVENT_READ)
        link.send(message)
    count, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        for key, _ in selector.select(0.5):
            if key.fileobj.recv(64):
                count += 1
                key.fileobj.send(message)
    taken = time.monotonic() - start
    for link in links:
        link.close()
    return count / taken


def flushes(path, seconds=2):
    with tempfile.NamedTemporaryFile(dir=path) as file:
        os.ftruncate(file.fileno(), 1 << 20)
        os.fsync(file.fileno())
        count, start = 0, time.monotonic()
        while time.monotonic() - start < seconds:
            os.pwrite(file.fileno(), b"x" * 512, count % 2048 * 512)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.monotonic() - start)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    def __init__(self, command, port):
        self.port = port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while True:
            try:
                # A broker listens before it is ready; it answers when it is.
                connect(port, "probe", True).close()
                return
            except OSError:
                assert time.monotonic() < until, f"{command[0]} does not listen"
                time.sleep(0.02)

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))

    def end(self):
        self.process.terminate()
        self.process.wait()


def ringmq(program, path, mode):
    port = free_port()
    flags = ["--listen", f"127.0.0.1:{port}", "--max-queued-messages", "100000000", "--max-queued-bytes", "100G"]
    store = ["--data-dir", path, "--durability", mode, "--min-free-space", "0"] if mode else []
    return Broker([program, "serve", *flags, *store], port)


def mosquitto(path):
    port = free_port()
    config = os.path.join(path, "mosquitto.conf")
    with open(config, "w") as file:
        file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {path}/\n")
        file.write("max_queued_messages 0\nuser root\n")
    return Broker(["mosquitto", "-c", config], port)


def row(name, start, counts, seconds):
    cells = []
    for publishers in counts:
        with tempfile.TemporaryDirectory(dir=arguments.dir) as path:
            broker = start(path)
            away(broker.port, "away", "load/#")
            cells.append(f"{acknowledged(broker.port, publishers, seconds):10.0f}")
            broker.end()
    print(f"{name:28}" + "".join(cells), flush=True)


def disk(path):
    return sum(os.path.getsize(os.path.join(folder, file)) for folder, _, files in os.walk(path) for file in files) >> 20


def retain(port, count):
    publisher = connect(port, "retainer", True)
    publisher.settimeout(60)
    for first in range(0, count, 1000):
        numbers = range(first, first + 1000)
        batch = [packet(0x33, text(f"retained/{n}") + struct.pack(">H", n % 1000 + 1) + b"x" * 64) for n in numbers]
        publisher.sendall(b"".join(batch))
        left = 4000
        while left:
            left -= len(publisher.recv(min(left, 65536)))


def unload(program, sessions, messages, retained):
    with tempfile.TemporaryDirectory(dir=arguments.dir) as path:
        broker = ringmq(program, path, "flush")
        before = broker.memory()
        for n in range(sessions):
            away(broker.port, f"session-{n}", f"queue/{n}")
        retain(broker.port, retained)
        with_retained = broker.memory()
        publisher = connect(broker.port, "loader", True)
        publisher.settimeout(60)
        start = time.monotonic()
        for n in range(sessions):
            batch = [packet(0x32, text(f"queue/{n}") + struct.pack(">H", i) + b"x" * 64) for i in range(1, 1001)]
            for _ in range(messages // 1000):
                publisher.sendall(b"".join(batch))
                left = 4000
                while left:
                    left -= len(publisher.recv(min(left, 65536)))
        loaded, memory, full = time.monotonic() - start, broker.memory(), disk(path)
        broker.end()
        start = time.monotonic()
        broker = ringmq(program, path, "flush")
        restarted, after = time.monotonic() - start, broker.memory()
        start, count = time.monotonic(), 0
        for n in range(sessions):
            link = connect(broker.port, f"session-{n}", False)
            link.settimeout(60)
            got, rest, length = 0, b"", len(packet(0x32, text(f"queue/{n}") + b"\0\0" + b"x" * 64))
            at = 4 + len(f"queue/{n}")
            while got < messages:
                rest += link.recv(65536)
                whole = len(rest) // length
                acks = [b"\x40\x02" + rest[i * length + at : i * length + at + 2] for i in range(whole)]
                link.sendall(b"".join(acks))
                rest = rest[whole * length :]
                got += whole
            count += got
            link.close()
        unloaded, drained = time.monotonic() - start, broker.memory()
        sizes = []
        for pause in [0, 5, 10, 15, 30]:
            time.sleep(pause)
            sizes.append(f"{disk(path)} MB")
        broker.end()
        total = sessions * messages
        print(f"{sessions} sessions, {messages} messages each: loaded {total / loaded:.0f}/s, "
              f"unloaded {count / unloaded:.0f}/s\n"
              f"resident: {before} MB at first, {with_retained} MB with {retained} retained messages, {memory} MB when loaded, "
              f"{after} MB after a restart that took {restarted:.1f} s, {drained} MB when unloaded\n"
              f"disk: {full} MB when loaded; when unloaded, after 0, 5, 15, 30 and 60 s: {', '.join(sizes)}")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", default="target/release/ringmq")
parser.add_argument("--seconds", type=float, default=5)
parser.add_argument("--publishers", default="1,10,100,1000")
parser.add_argument("--dir", default=".", help="a folder on the disk to be measured")
parser.add_argument("--retained", type=int, default=0, help="retained messages beside the queue, a multiple of 1000")
parser.add_argument("--queue", default="100,10000", help="sessions,messages of the queue; 0,0 leaves it out")
arguments = parser.parse_args()
counts = [int(count) for count in arguments.publishers.split(",") if count]
print(f"{flushes(arguments.dir):.0f} fdatasync a second")
print(f"{'acknowledged a second':28}" + "".join(f"{count:10}" for count in counts))
for mode in ["flush", "interval", "os", ""] if counts else []:
    start = lambda path: ringmq(arguments.program, os.path.join(path, "data"), mode)
    row(f"ringmq {mode or 'without a store'}", start, counts, arguments.seconds)
if counts and shutil.which("mosquitto"):
    row("mosquitto with persistence", mosquitto, counts, arguments.seconds)
sessions, messages = (int(number) for number in arguments.queue.split(","))
if sessions:
    unload(arguments.program, sessions, messages, arguments.retained)
