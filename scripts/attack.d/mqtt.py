"""Packets and sockets: as much of MQTT 5.0 as honest and other clients need, and every way to get it wrong."""

import os
import socket
import ssl
import struct
import time

MASK = b"\x01\x02\x03\x04"
REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)


def text(value) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(data)) + data


def length(number: int) -> bytes:
    out = b""
    while True:
        number, low = divmod(number, 128)
        out += bytes([low | (128 if number else 0)])
        if not number:
            return out


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + length(len(body)) + body


def connect(
    client_id: str, clean=True, expiry=0, keep_alive=600, will=None, receive_maximum=None, extra=b"", user=None
) -> bytes:
    flags = 2 if clean else 0
    properties = extra
    if expiry:
        properties += b"\x11" + struct.pack(">I", expiry)
    if receive_maximum:
        properties += b"\x21" + struct.pack(">H", receive_maximum)
    payload = text(client_id)
    if will:
        topic, message, delay = will
        flags |= 4
        will_properties = b"\x18" + struct.pack(">I", delay) if delay else b""
        payload += length(len(will_properties)) + will_properties + text(topic) + text(message)
    if user:
        flags |= 0x80 | 0x40
        payload += text(user[0]) + text(user[1])
    body = text("MQTT") + bytes([5, flags]) + struct.pack(">H", keep_alive)
    return packet(0x10, body + length(len(properties)) + properties + payload)


def publish(topic, payload: bytes, qos=0, packet_id=0, retain=False, properties=b"", dup=False) -> bytes:
    identifier = struct.pack(">H", packet_id) if qos else b""
    body = text(topic) + identifier + length(len(properties)) + properties + payload
    return packet(0x30 | qos << 1 | (1 if retain else 0) | (8 if dup else 0), body)


def subscribe(packet_id: int, filters, qos=0) -> bytes:
    wanted = b"".join(text(one) + bytes([qos]) for one in filters)
    return packet(0x82, struct.pack(">H", packet_id) + b"\0" + wanted)


def ack(first: int, packet_id: int) -> bytes:
    return bytes([first, 2]) + struct.pack(">H", packet_id)


PING = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"


def user_property(key: str, value: str) -> bytes:
    return b"\x26" + text(key) + text(value)


def frame(payload: bytes, opcode=2, final=True, declared=None) -> bytes:
    """A WebSocket frame of a client; `declared`: the length it claims."""
    size = len(payload) if declared is None else declared
    head = bytes([(0x80 if final else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", size)
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


class Parser:
    """Cuts packets out of a stream: (first byte, body)."""

    def __init__(self):
        self.rest = b""

    def feed(self, data: bytes) -> list:
        self.rest += data
        packets = []
        at, end = 0, len(self.rest)
        while end - at >= 2:
            size, shift, place = 0, 0, at + 1
            while place < end:
                byte = self.rest[place]
                size |= (byte & 127) << shift
                shift += 7
                place += 1
                if not byte & 128:
                    break
            else:
                break
            if end - place < size:
                break
            packets.append((self.rest[at], self.rest[place : place + size]))
            at = place + size
        self.rest = self.rest[at:]
        return packets


def publish_parts(first: int, body: bytes):
    """Topic, packet id (0 without) and payload of a PUBLISH."""
    (size,) = struct.unpack_from(">H", body)
    at, packet_id = 2 + size, 0
    if first >> 1 & 3:
        (packet_id,) = struct.unpack_from(">H", body, at)
        at += 2
    properties, shift = 0, 0
    while True:
        byte = body[at]
        at += 1
        properties |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            break
    return body[2 : 2 + size], packet_id, body[at + properties :]


def verdict(data: bytes) -> str:
    """What a connection was told, in short: the first CONNACK that refuses, or a DISCONNECT."""
    for first, body in Parser().feed(data):
        if first >> 4 == 2 and len(body) > 1 and body[1]:
            return f"CONNACK 0x{body[1]:02x}"
        if first >> 4 == 14 and body:
            return f"DISCONNECT 0x{body[0]:02x}"
    return "closed"


class Peer:
    """One blocking connection that says anything."""

    def __init__(self, port: int, context=None, receive_buffer=None, timeout=20, source=None):
        link = socket.socket()
        if source:
            link.bind((source, 0))
        if receive_buffer:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        link.settimeout(timeout)
        link.connect(("127.0.0.1", port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = link
        self.link = context.wrap_socket(link, server_hostname="localhost") if context else link
        self.parser = Parser()
        self.waiting = []
        self.heard = b""

    @staticmethod
    def connected(port: int, client_id: str, **options) -> "Peer":
        peer = Peer(port, receive_buffer=options.pop("receive_buffer", None))
        peer.send(connect(client_id, **options))
        assert peer.next()[0] == 0x20
        return peer

    @staticmethod
    def websocket(port: int, receive_buffer=None) -> "Peer":
        peer = Peer(port, receive_buffer=receive_buffer)
        peer.send(REQUEST)
        while b"\r\n\r\n" not in peer.heard:
            peer.heard += peer.link.recv(4096)
        peer.heard = b""
        return peer

    def send(self, data: bytes) -> bool:
        """False when the broker has ended the connection, or does not read within the time."""
        try:
            self.link.sendall(data)
            return True
        except (OSError, ssl.SSLError):
            return False

    def next(self):
        while not self.waiting:
            data = self.link.recv(1 << 16)
            if not data:
                raise ConnectionError("closed")
            self.waiting = self.parser.feed(data)
        return self.waiting.pop(0)

    def end(self, seconds=5.0) -> str:
        """Reads to the end: what the connection was told; "open" when it has not been ended in that time."""
        self.link.settimeout(seconds)
        data = b""
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                got = self.link.recv(1 << 16)
                if not got:
                    return verdict(data)
                data = (data + got)[-(1 << 20) :]
        except TimeoutError:
            return "open"
        except OSError:
            return verdict(data)
        return "open"

    def close(self):
        self.raw.close()
        self.link.close()


def unique(prefix: str) -> str:
    return f"{prefix}-{os.getpid()}-{time.monotonic_ns()}"
