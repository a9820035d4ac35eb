"""Honest clients, as a process of their own: a QoS 1 publisher and subscriber at a steady rate, and somebody who connects
now and then. Ends when its standard input does, and prints what was seen as JSON."""

import json
import selectors
import socket
import struct
import sys
import time

import mqtt

TOPIC = "honest/plant/1/temperature"
RATE = 200
CONNECTS = 5
# How long after the end acknowledgements and messages may still come.
DRAIN = 10.0


class Link:
    """A connection with non-blocking reads."""

    def __init__(self, port: int, client_id: str):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.parser = mqtt.Parser()
        self.is_open = True
        self.send(mqtt.connect(client_id))
        assert self.wait()[0] == 0x20, client_id

    def wait(self):
        while True:
            if packets := self.parser.feed(self.socket.recv(65536)):
                return packets[0]

    def send(self, data: bytes):
        try:
            self.socket.sendall(data)
        except OSError:
            self.is_open = False

    def read(self):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.is_open = False
        return self.parser.feed(data)


def main():
    port = int(sys.argv[1])
    subscriber = Link(port, "honest-subscriber")
    subscriber.send(mqtt.subscribe(1, [TOPIC], 1))
    assert subscriber.wait()[0] == 0x90
    publisher = Link(port, "honest-publisher")
    selector = selectors.DefaultSelector()
    for link in (subscriber, publisher):
        selector.register(link.socket, selectors.EVENT_READ, link)
        link.socket.setblocking(True)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    print("ready", flush=True)

    scheduled, arrived, acknowledged, connects = {}, {}, set(), []
    doubled = number = 0
    start = time.monotonic()
    visitor, visitor_since, next_visit = None, 0.0, start
    ending = None
    while True:
        now = time.monotonic()
        if ending is None:
            while start + number / RATE <= now:
                scheduled[number] = start + number / RATE
                payload = struct.pack(">Q", number) + b"x" * 56
                publisher.send(mqtt.publish(TOPIC, payload, 1, number % 60000 + 1))
                number += 1
            if visitor is None and now >= next_visit:
                next_visit = max(next_visit + 1 / CONNECTS, now - 1)
                visitor_since = now
                visitor = socket.socket()
                visitor.setblocking(False)
                visitor.connect_ex(("127.0.0.1", port))
                visitor_said = False
                selector.register(visitor, selectors.EVENT_READ | selectors.EVENT_WRITE, visitor)
        elif len(arrived) == number or now > ending + DRAIN:
            break
        pause = 0.05 if ending is not None else max(0.0, start + number / RATE - now)
        for key, mask in selector.select(min(pause, 0.05)):
            if key.data is None:
                if not sys.stdin.read(1):
                    selector.unregister(sys.stdin)
                    ending = time.monotonic()
            elif key.data is visitor:
                outcome = None
                try:
                    if not visitor_said:
                        visitor.send(mqtt.connect(f"honest-visitor-{len(connects)}"))
                        visitor_said = True
                        selector.modify(visitor, selectors.EVENT_READ, visitor)
                    elif mask & selectors.EVENT_READ:
                        outcome = visitor.recv(100)[:1] == b"\x20"
                except BlockingIOError:
                    pass
                except OSError:
                    outcome = False
                if outcome is not None:
                    connects.append((visitor_since, time.monotonic() - visitor_since, outcome))
                    selector.unregister(visitor)
                    visitor.close()
                    visitor = None
            elif key.data is subscriber:
                for first, body in subscriber.read():
                    if first >> 4 == 3:
                        _, packet_id, payload = mqtt.publish_parts(first, body)
                        (seen,) = struct.unpack_from(">Q", payload)
                        doubled += seen in arrived
                        arrived.setdefault(seen, time.monotonic())
                        subscriber.send(mqtt.ack(0x40, packet_id))
                if not subscriber.is_open:
                    selector.unregister(subscriber.socket)
            else:
                for first, body in publisher.read():
                    if first >> 4 == 4:
                        (packet_id,) = struct.unpack_from(">H", body)
                        # Fewer than 60,000 are on their way.
                        candidate = (number - 1) // 60000 * 60000 + packet_id - 1
                        acknowledged.add(candidate if candidate < number else candidate - 60000)
                if not publisher.is_open:
                    selector.unregister(publisher.socket)
    if visitor is not None:
        connects.append((visitor_since, time.monotonic() - visitor_since, False))
    rows = [(at, arrived[n] - at if n in arrived else None, n in acknowledged) for n, at in scheduled.items()]
    is_open = publisher.is_open and subscriber.is_open
    json.dump({"messages": rows, "connects": connects, "doubled": doubled, "is_open": is_open}, sys.stdout)


main()
