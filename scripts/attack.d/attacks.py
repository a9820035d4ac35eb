"""The attacks: each a function of the broker's ports and the time it lasts. Run as `attacks.py NAME PORTS SECONDS`, it
prints as JSON what the attacker saw: outcome -> how often."""

import json
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections import Counter

import mqtt
from mqtt import Peer, unique

ATTACKS = {}


def attack(title: str, limit: str, seconds: float = 4.0, settings: str = ""):
    """Registers one: its title, what is to hold it, how long it goes on, and settings that it needs."""

    def register(function):
        ATTACKS[function.__name__] = (title, limit, seconds, function, settings)
        return function

    return register


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def client_hello() -> bytes:
    """The first message of a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        half.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def many(port: int, count: int) -> list:
    """So many TCP connections, without waiting for each."""
    links = []
    for _ in range(count):
        link = socket.socket()
        link.setblocking(False)
        link.connect_ex(("127.0.0.1", port))
        links.append(link)
        if len(links) % 500 == 0:
            time.sleep(0.01)
    return links


def drip(port: int, words: bytes, count: int, until: float, gap: float) -> Counter:
    """Sends `words` byte by byte on many connections, with pauses; counts how they end."""
    seen = Counter()
    links = {link: 0 for link in many(port, count)}
    time.sleep(0.2)
    while links and time.monotonic() < until:
        round_ends = time.monotonic() + gap
        for link in list(links):
            at = links[link]
            try:
                if at < len(words):
                    link.send(words[at : at + 1])
                links[link] += 1
                link.recv(4096, socket.MSG_DONTWAIT) or (_ for _ in ()).throw(ConnectionError())
            except BlockingIOError:
                pass
            except OSError:
                seen["ended by the broker"] += 1
                link.close()
                del links[link]
        time.sleep(max(0.0, min(round_ends, until) - time.monotonic()))
    seen["left open"] += len(links)
    return seen


# What begins and does not end.


@attack("slowloris, TCP: 2,000 CONNECTs byte by byte", "`connect-timeout`", 13)
def slowloris_tcp(ports, until):
    return drip(ports["tcp"], mqtt.connect(unique("slow")) * 3, 2000, until, 1.0)


@attack("slowloris, TLS: 2,000 ClientHellos byte by byte", "`connect-timeout`", 13)
def slowloris_tls(ports, until):
    return drip(ports["tls"], client_hello(), 2000, until, 1.0)


@attack("slowloris, WebSocket: 2,000 requests byte by byte", "`connect-timeout`", 13)
def slowloris_websocket(ports, until):
    return drip(ports["websocket"], mqtt.REQUEST, 2000, until, 1.0)


@attack("slowloris, PROXY: 2,000 headers byte by byte", "`connect-timeout`", 13)
def slowloris_proxy(ports, until):
    return drip(ports["proxy"], b"PROXY TCP4 192.0.2.9 127.0.0.1 4711 1883\r\n" * 3, 2000, until, 1.0)


@attack("10,000 half-open connections, TCP", "`connect-timeout`; nothing is kept for them", 13)
def half_open_tcp(ports, until):
    return drip(ports["tcp"], b"\x10", 10_000, until, 2.0)


@attack("10,000 half-open TLS handshakes", "`connect-timeout`; handshakes get 0.5 ms of a turn", 13)
def half_open_tls(ports, until):
    hello, seen = client_hello(), Counter()
    links = many(ports["tls"], 10_000)
    selector = selectors.DefaultSelector()
    for link in links:
        selector.register(link, selectors.EVENT_WRITE)
    left = len(links)
    while left and time.monotonic() < until:
        for key, mask in selector.select(0.2):
            link = key.fileobj
            try:
                if mask & selectors.EVENT_WRITE:
                    link.send(hello)
                    selector.modify(link, selectors.EVENT_READ)
                elif link.recv(65536):
                    seen["ServerHello"] += 1
                else:
                    raise ConnectionError
            except BlockingIOError:
                pass
            except OSError:
                seen["ended by the broker"] += 1
                selector.unregister(link)
                link.close()
                left -= 1
    seen["left open"] += left
    return seen


@attack("packets with a length of 256 MiB, before and after CONNECT", "`max-packet`, at the header")
def oversized(ports, until):
    seen = Counter()
    while time.monotonic() < until:
        peer = Peer(ports["tcp"])
        peer.send(b"\x10\xff\xff\xff\x7f" + b"x" * 1000)
        seen[f"first packet: {peer.end()}"] += 1
        peer.close()
        peer = Peer.connected(ports["tcp"], unique("big"))
        peer.send(b"\x30\xff\xff\xff\x7f" + b"x" * 1000)
        seen[f"later: {peer.end()}"] += 1
        peer.close()
    return seen


@attack("200 CONNECTs of 2 MiB that do not end", "`max-connect`")
def endless_connect(ports, until):
    seen, peers = Counter(), []
    for _ in range(200):
        peer = Peer(ports["tcp"])
        whole = mqtt.packet(0x10, mqtt.text("MQTT") + b"\5\2\0\0" + b"x" * (2_000_000))
        peer.send(whole[:1_500_000])
        peers.append(peer)
    for peer in peers:
        seen[peer.end(2)] += 1
    return seen


@attack("200 clients with a PUBLISH of 2 MiB that stops one byte before its end", "`max-packet` for each connection; `max-memory`", 5)
def endless_publish(ports, until):
    peers = []
    whole = mqtt.publish("endless", b"x" * (2 * 1024 * 1024 - 100))
    for _ in range(200):
        peer = Peer.connected(ports["tcp"], unique("endless"))
        peer.send(whole[:-1])
        peers.append(peer)
    time.sleep(max(0.0, until - time.monotonic()))
    return Counter({"held": len(peers)})


# Many.


@attack("connect flood: connect, CONNECT, leave, as fast as one process can", "none needed: paced by the accept queue")
def connect_flood(ports, until):
    def outcome(answer):
        return "accepted" if answer[:1] == b"\x20" else "ended"

    return visits(ports["tcp"], until, 200, lambda number: mqtt.connect(f"flood-{number}"), outcome)


def visits(port, until, count, connect, outcome):
    """So many connections at a time, each of which says `connect(number)`, hears an answer and leaves; counts the outcomes."""
    seen, selector = Counter(), selectors.DefaultSelector()

    def begin():
        link = socket.socket()
        link.setblocking(False)
        link.connect_ex(("127.0.0.1", port))
        selector.register(link, selectors.EVENT_WRITE)

    for _ in range(count):
        begin()
    number = 0
    while time.monotonic() < until:
        for key, mask in selector.select(0.1):
            link = key.fileobj
            try:
                if mask & selectors.EVENT_WRITE:
                    link.send(connect(number))
                    number += 1
                    selector.modify(link, selectors.EVENT_READ)
                    continue
                seen[outcome(link.recv(100))] += 1
            except BlockingIOError:
                continue
            except OSError:
                seen["ended"] += 1
            selector.unregister(link)
            link.close()
            begin()
    return seen


@attack(
    "connect flood from one address, which may come 20 times a second",
    "`max-connection-rate-per-address`",
    settings="max-connection-rate-per-address = 20\n",
)
def connection_rate(ports, until):
    seen = Counter()
    while time.monotonic() < until:
        peer = Peer(ports["tcp"], source="127.0.0.2")
        peer.send(mqtt.connect(unique("rate")))
        try:
            seen["let in" if peer.next()[0] == 0x20 else "refused"] += 1
        except OSError:
            seen["closed at once"] += 1
        peer.close()
    return seen


@attack(
    "login flood: wrong passwords (argon2id), 1,500 at a time, and now and then the right one",
    "`auth-threads`, which are not the shards; `auth-queue` (0x88)",
    6,
    settings='password-file = "{dir}/passwords"\nallow-anonymous = true\n',
)
def login_flood(ports, until):
    def connect(number):
        # The broker is made with this user and the right one.
        password = "right" if number % 100 == 99 else "wrong"
        return mqtt.connect(f"login-{number}", user=("ann", password))

    def outcome(answer):
        return f"CONNACK 0x{answer[3]:02x}" if answer[:1] == b"\x20" else "ended"

    return visits(ports["tcp"], until, 1500, connect, outcome)


@attack("TLS handshake flood, whole handshakes", "handshakes get 0.5 ms of a turn")
def handshake_flood(ports, until):
    seen, context = Counter(), client_context()
    while time.monotonic() < until:
        try:
            Peer(ports["tls"], context).close()
            seen["handshakes"] += 1
        except OSError:
            seen["failed"] += 1
    return seen


@attack("client id kick war: two clients take one session from each other", "none needed: one takeover at a time")
def kick_war(ports, until):
    seen, peers = Counter(), []
    while time.monotonic() < until:
        peer = Peer.connected(ports["tcp"], "wanted", clean=False, expiry=3600)
        peers.append(peer)
        seen["takeovers"] += 1
        if len(peers) > 2:
            seen[f"old one: {peers.pop(0).end()}"] += 1
    return seen


@attack("will flood: 60 KB wills, connections cut without DISCONNECT", "`max-connect`; wills go to nobody")
def will_flood(ports, until):
    seen = Counter()
    while time.monotonic() < until:
        peer = Peer.connected(ports["tcp"], unique("will"), will=("will/t", b"w" * 60_000, 0))
        peer.close()
        seen["wills"] += 1
    return seen


@attack("delayed wills: 60 KB, kept for an hour by sessions that are away", "`max-connect` for each, session expiry, `max-sessions`; `max-memory`")
def delayed_wills(ports, until):
    seen = Counter()
    while time.monotonic() < until:
        peer = Peer.connected(
            ports["tcp"], unique("will"), expiry=3600, will=("will/t", b"w" * 60_000, 3600)
        )
        peer.close()
        seen["wills kept"] += 1
    return seen


# Subscriptions.


@attack("10,000 filters of 200 levels (`+/+/+/…`) of one client", "`max-topic-levels`, 64 MiB of filters a session (0x97)")
def deep_filters(ports, until):
    seen, peer = Counter(), Peer.connected(ports["tcp"], unique("deep"))
    for number in range(1, 101):
        filters = [f"{number}-{n}/" + "+/" * 198 + "#" for n in range(100)]
        if not peer.send(mqtt.subscribe(number, filters)):
            break
        _, body = peer.next()
        for code in body[3:]:
            seen[f"SUBACK 0x{code:02x}"] += 1
    peer.send(mqtt.subscribe(9, ["/".join("+" * 201)]))
    seen[f"201 levels: SUBACK 0x{peer.next()[1][-1]:02x}"] += 1
    time.sleep(max(0.0, until - time.monotonic()))
    return seen


@attack("1,000 clients subscribed to `#`, which read", "none: they ask for every message", 5)
def everything(ports, until):
    seen, selector = Counter(), selectors.DefaultSelector()
    for number in range(1000):
        peer = Peer.connected(ports["tcp"], unique(f"all-{number}"))
        peer.send(mqtt.subscribe(1, ["#"]))
        peer.link.setblocking(False)
        selector.register(peer.link, selectors.EVENT_READ, peer)
    while time.monotonic() < until:
        for key, _ in selector.select(0.1):
            try:
                seen["bytes"] += len(key.fileobj.recv(1 << 20))
            except OSError:
                seen["ended"] += 1
                selector.unregister(key.fileobj)
    return seen


@attack("100,000 filters in packets of 2 MiB, again and again", "`max-subscriptions`")
def filters_in_few_packets(ports, until):
    seen, peer = Counter(), Peer.connected(ports["tcp"], unique("few"))
    number = 0
    while time.monotonic() < until:
        filters = [f"bomb/{number % 3}/{n}/+" for n in range(70_000)]
        if not peer.send(mqtt.subscribe(number % 1000 + 1, filters)):
            seen["ended"] += 1
            break
        number += 1
        _, body = peer.next()
        for code, times in Counter(body[3:]).items():
            seen[f"SUBACK 0x{code:02x}"] += times
    return seen


@attack("filters one by one, as fast as one process can", "`max-subscriptions`")
def filters_in_many_packets(ports, until):
    seen, peer = Counter(), Peer.connected(ports["tcp"], unique("many"))
    number = 0
    while time.monotonic() < until:
        wanted = range(number, number + 1000)
        peer.send(b"".join(mqtt.subscribe(n % 60_000 + 1, [f"bomb/+/{n}/#"]) for n in wanted))
        number += 1000
        for _ in wanted:
            seen[f"SUBACK 0x{peer.next()[1][-1]:02x}"] += 1
    return seen


@attack("topics that match 65,536 filters of one client, as fast as they are taken", "work of one turn is bounded; TCP slows the sender")
def matching_bomb(ports, until):
    seen, levels = Counter(), 16
    reader = Peer.connected(ports["tcp"], unique("mix"))
    mixes = []
    for number in range(1 << levels):
        mixes.append("mix/+" + "".join("/+" if number >> level & 1 else "/a" for level in range(levels)))
    for part in range(0, len(mixes), 8192):
        reader.send(mqtt.subscribe(part // 8192 + 1, mixes[part : part + 8192]))
        reader.next()
    writer = Peer.connected(ports["tcp"], unique("mixer"))
    writer.link.settimeout(0.5)
    number = 0
    while time.monotonic() < until:
        topics = [f"mix/{n}" + "/a" * levels for n in range(number, number + 50)]
        if writer.send(b"".join(mqtt.publish(topic, b"x") for topic in topics)):
            seen["publishes"] += 50
        else:
            seen["not taken"] += 50
            break
        number += 50
    time.sleep(max(0.0, until - time.monotonic()))
    return seen


@attack("100 clients with 1,000 groups (`$share`) each for one topic that is flooded", "work of one turn is bounded", 5)
def group_bomb(ports, until):
    seen = Counter()
    peers = []
    for number in range(100):
        peer = Peer.connected(ports["tcp"], unique("group"), receive_buffer=4096)
        peer.send(mqtt.subscribe(1, [f"$share/g{number}-{n}/groups/#" for n in range(1000)]))
        peer.next()
        peers.append(peer)
    writer = Peer.connected(ports["tcp"], unique("groups"))
    writer.link.settimeout(0.5)
    while time.monotonic() < until:
        if not writer.send(mqtt.publish("groups/t", b"x" * 64) * 20):
            seen["not taken"] += 20
            break
        seen["publishes"] += 20
    time.sleep(max(0.0, until - time.monotonic()))
    return seen


# Publishing.


@attack("topics of 65,535 bytes: one level, and 32,768 levels", "`max-topic-levels` (0x90)")
def long_topics(ports, until):
    seen = Counter()
    one = mqtt.publish(b"x" * 65_535, b"")
    levels = mqtt.publish(b"/".join([b"a"] * 32_768), b"", 1, 1)
    while time.monotonic() < until:
        peer = Peer.connected(ports["tcp"], unique("long"))
        seen["one level: taken" if peer.send(one * 20 + mqtt.PING) and peer.next()[0] == 0xD0 else "ended"] += 20
        peer.send(levels)
        first, body = peer.next()
        seen[f"32,768 levels: packet 0x{first:02x}, code 0x{body[2 if first == 0x40 else 0]:02x}"] += 1
        peer.close()
    return seen


@attack("topic aliases: 0, above the maximum, never set", "0x94, 0x82")
def alias_abuse(ports, until):
    seen = Counter()
    while time.monotonic() < until:
        for name, topic, number in [("0", "t", 0), ("65535", "t", 65535), ("65", "t", 65), ("not set", "", 5)]:
            peer = Peer.connected(ports["tcp"], unique("alias"))
            peer.send(mqtt.publish(topic, b"x", properties=b"\x23" + struct.pack(">H", number)))
            seen[f"{name}: {peer.end()}"] += 1
            peer.close()
    return seen


@attack("packet ids: 0, used twice at QoS 2, acknowledgements of nothing", "0x82; the rest is answered or ignored")
def packet_id_abuse(ports, until):
    seen = Counter()
    peer = Peer.connected(ports["tcp"], unique("ids"))
    peer.send(mqtt.publish("t", b"x", 1, 0))
    seen[f"id 0: {peer.end()}"] += 1
    peer = Peer.connected(ports["tcp"], unique("ids"))
    while time.monotonic() < until:
        nothing = b"".join(mqtt.ack(first, n) for first in (0x40, 0x50, 0x62, 0x70) for n in range(1, 200))
        if not peer.send(mqtt.publish("t", b"x", 2, 7) * 200 + nothing + mqtt.PING):
            seen["ended"] += 1
            break
        while True:
            first, _ = peer.next()
            if first == 0xD0:
                break
            seen[{0x50: "PUBREC", 0x70: "PUBCOMP", 0x62: "PUBREL"}.get(first, f"0x{first:02x}")] += 1
    return seen


@attack("retained flood: a million topics", "`max-retained`, then QoS 0 is dropped and counted", 9)
def retained_flood(ports, until):
    peer = Peer.connected(ports["tcp"], unique("retain"))
    seen = Counter()
    for part in range(0, 1_200_000, 10_000):
        messages = (mqtt.publish(f"retained/{n}", b"x" * 20, retain=True) for n in range(part, part + 10_000))
        if time.monotonic() > until or not peer.send(b"".join(messages)):
            break
        seen["retained publishes"] += 10_000
    return seen


@attack("retained flood: 400 messages of 2 MB", "`max-retained`, `max-packet`; `max-memory`", 5)
def retained_bytes(ports, until):
    peer = Peer.connected(ports["tcp"], unique("retain"))
    seen, payload = Counter(), b"x" * 2_000_000
    for number in range(1, 401):
        peer.send(mqtt.publish(f"retained/{number}", payload, 1, number, retain=True))
        first, body = peer.next()
        seen[f"PUBACK 0x{body[2]:02x}" if len(body) > 2 else "PUBACK"] += 1
    time.sleep(max(0.0, until - time.monotonic()))
    return seen


@attack("QoS 2 without PUBREL: 200 clients", "`receive-maximum` (0x93)")
def no_pubrel(ports, until):
    seen = Counter()
    for _ in range(200):
        peer = Peer.connected(ports["tcp"], unique("rel"))
        peer.send(b"".join(mqtt.publish("rel", b"x" * 64, 2, n) for n in range(1, 1100)))
        seen[peer.end()] += 1
        peer.close()
    return seen


@attack("QoS 1 without PUBACK: 20 clients of a flooded topic", "`max-inflight`, `max-queued-messages`; the oldest is dropped and counted", 5)
def no_puback(ports, until):
    seen, selector = Counter(), selectors.DefaultSelector()
    for number in range(20):
        peer = Peer.connected(ports["tcp"], unique("ack"), receive_maximum=65535)
        peer.send(mqtt.subscribe(1, ["unacked/#"], 1))
        peer.next()
        peer.link.setblocking(False)
        selector.register(peer.link, selectors.EVENT_READ)
    flood(ports, until, seen, "unacked/t", 1, selector)
    return seen


def flood(ports, until, seen, topic, qos, selector=None, size=256):
    """Publishes as fast as it is taken; reads what `selector` knows meanwhile."""
    writer = Peer.connected(ports["tcp"], unique("flood"))
    if qos:
        batch = b"".join(mqtt.publish(topic, b"x" * size, qos, n) for n in range(1, 501))
    else:
        batch = mqtt.publish(topic, b"x" * size) * 500
    while time.monotonic() < until:
        if not writer.send(batch):
            seen["publisher ended"] += 1
            return
        seen["publishes"] += 500
        if qos:
            left = 500
            while left:
                left -= writer.next()[0] == 0x40
        for key, _ in selector.select(0) if selector else []:
            try:
                seen["bytes read"] += len(key.fileobj.recv(1 << 20))
            except OSError:
                seen["subscriber ended"] += 1
                selector.unregister(key.fileobj)


@attack("20 subscribers that never read, QoS 0 flood", "`output-mark`: dropped and counted", 5)
def never_reads(ports, until):
    seen, peers = Counter(), []
    for number in range(20):
        peer = Peer.connected(ports["tcp"], unique("deaf"), receive_buffer=4096)
        peer.send(mqtt.subscribe(1, ["deaf/#"], 0))
        peers.append(peer)
    flood(ports, until, seen, "deaf/t", 0)
    return seen


@attack("a publisher 100 times as fast as its 10 subscribers, QoS 0", "`output-mark`: dropped and counted", 5)
def slow_readers_0(ports, until):
    return slow_readers(ports, until, 0)


@attack("a publisher 100 times as fast as its 10 subscribers, QoS 1", "`max-queued-messages`: the oldest is dropped and counted", 5)
def slow_readers_1(ports, until):
    return slow_readers(ports, until, 1)


def slow_readers(ports, until, qos):
    seen, readers = Counter(), []
    for number in range(10):
        peer = Peer.connected(ports["tcp"], unique("slow"), receive_buffer=4096)
        peer.send(mqtt.subscribe(1, ["slow/#"], qos))
        peer.next()
        peer.link.setblocking(False)
        readers.append(peer)

    class Slow:
        """Lets every reader take a hundredth of what comes."""

        def __init__(self):
            self.turn = 0

        def select(self, _):
            for peer in readers:
                try:
                    for first, body in peer.parser.feed(peer.link.recv(1500)):
                        if first >> 4 == 3 and qos:
                            peer.send(mqtt.ack(0x40, mqtt.publish_parts(first, body)[1]))
                        seen["messages read"] += 1
                except OSError:
                    pass
            return []

    flood(ports, until, seen, "slow/t", qos, Slow())
    return seen


@attack("500 sessions that are away, 10,000 messages of 1 KB for each", "`max-queued-messages`, `max-queued-bytes`; a payload is kept once; `max-memory`", 8)
def away(ports, until):
    seen = Counter()
    for number in range(500):
        peer = Peer.connected(ports["tcp"], unique("away"), clean=False, expiry=3600)
        peer.send(mqtt.subscribe(1, ["away/#"], 1))
        peer.next()
        peer.close()
    flood(ports, until, seen, "away/t", 1, size=1024)
    return seen


@attack("packets of 2 MB that are user properties, to one who subscribed", "`max-packet`; one walk over the bytes")
def user_properties(ports, until):
    seen = Counter()
    reader = Peer.connected(ports["tcp"], unique("user"), receive_buffer=4096)
    reader.send(mqtt.subscribe(1, ["user/#"], 0))
    bomb = mqtt.publish("user/t", b"x", 1, 1, properties=mqtt.user_property("", "") * 400_000)
    peer = Peer.connected(ports["tcp"], unique("user"))
    while time.monotonic() < until:
        peer.send(bomb)
        seen["taken" if peer.next()[0] == 0x40 else "other"] += 1
    peer = Peer(ports["tcp"])
    peer.send(mqtt.connect(unique("user"), extra=mqtt.user_property("", "") * 100_000))
    seen[f"CONNECT of 500 KB: {peer.end(1)}"] += 1
    return seen


@attack("publishing to `$SYS/…`", "0x87; nothing arrives")
def reserved_topics(ports, until):
    seen = Counter()
    reader = Peer.connected(ports["tcp"], unique("sys"))
    reader.send(mqtt.subscribe(1, ["$SYS/forged", "$SYS/broker/forged"], 0))
    reader.next()
    peer = Peer.connected(ports["tcp"], unique("sys"))
    for topic in ("$SYS/forged", "$SYS/broker/forged"):
        peer.send(mqtt.publish(topic, b"{}", 1, 1))
        _, body = peer.next()
        seen[f"PUBACK 0x{body[2] if len(body) > 2 else 0:02x}"] += 1
    reader.send(mqtt.PING)
    seen["arrived" if reader.next()[0] != 0xD0 else "arrived nowhere"] += 1
    return seen


# Transports.


@attack("PROXY headers: forged where none may come, rubbish where one must", "it is no MQTT, or no header; closed")
def proxy_forged(ports, until):
    seen = Counter()
    whole = b"PROXY TCP4 192.0.2.9 127.0.0.1 4711 1883\r\n" + mqtt.connect(unique("p" * 50))
    endless = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + b"x" * 5000
    while time.monotonic() < until:
        for name, port, data in [
            ("forged", "tcp", whole),
            ("none", "proxy", mqtt.connect(unique("p"))),
            ("rubbish", "proxy", b"PROXY TCP4 999.0.2.9\r\n"),
            ("64 KB", "proxy", endless),
        ]:
            peer = Peer(ports[port])
            peer.send(data)
            seen[f"{name}: {peer.end()}"] += 1
            peer.close()
    return seen


@attack("WebSocket: pings whose pongs are not read, 50 clients", "256 KiB of answers, then closed")
def websocket_pings(ports, until):
    seen = Counter()
    pings = mqtt.frame(b"p" * 125, 9) * 1000
    peers = [Peer.websocket(ports["websocket"], 4096) for _ in range(50)]
    for peer in peers:
        peer.link.settimeout(2)
        for _ in range(200):
            if not peer.send(pings):
                break
        # A connection that is over is read for a moment more, so that the end is not lost.
        seen[peer.end(2)] += 1
    return seen


@attack("WebSocket: empty fragments and frames of one byte, as fast as they are taken", "nothing is kept of them")
def websocket_fragments(ports, until):
    seen = Counter()
    peer = Peer.websocket(ports["websocket"])
    peer.send(mqtt.frame(mqtt.connect(unique("frag"))))
    peer.send(mqtt.frame(b"", 2, False))
    while time.monotonic() < until:
        if not peer.send(mqtt.frame(b"", 0, False) * 10_000):
            seen["ended"] += 1
            break
        seen["empty fragments"] += 10_000
    peer.send(mqtt.frame(b"", 0))
    message = b"".join(mqtt.frame(bytes([byte])) for byte in mqtt.PING)
    seen["still served" if peer.send(message) and peer.end(1) == "open" else "ended"] += 1
    return seen


@attack("WebSocket: frames that say they have 2⁶² bytes", "`websocket-max-frame` (1009)")
def websocket_lengths(ports, until):
    seen = Counter()
    while time.monotonic() < until:
        peer = Peer.websocket(ports["websocket"])
        peer.send(mqtt.frame(b"x" * 100, declared=1 << 62))
        data = b""
        try:
            while got := peer.link.recv(100):
                data += got
        except OSError:
            pass
        code = int.from_bytes(data[2:4], "big") if data[:1] == b"\x88" else 0
        seen[f"close {code}"] += 1
        peer.close()
    return seen


@attack("TLS 1.2 renegotiation, TLS 1.3 key updates without end", "renegotiation is refused; updates are paced by TCP")
def tls_updates(ports, until):
    seen = Counter()
    target = f"127.0.0.1:{ports['tls']}"
    for version, word, name in (("-tls1_2", "R\n", "renegotiation"), ("-tls1_3", "K\n", "key updates")):
        command = ["openssl", "s_client", "-connect", target, version]
        client = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        time.sleep(0.3)
        asked = 0
        ends = time.monotonic() + max(0.5, (until - time.monotonic()) / 2)
        try:
            while time.monotonic() < ends and client.poll() is None:
                client.stdin.write(word)
                client.stdin.flush()
                asked += 1
                time.sleep(0.002)
        except OSError:
            pass
        seen[f"{name}: {'went on' if client.poll() is None else 'ended'}"] += asked
        client.kill()
        client.wait()
    return seen


@attack("TLS records of one byte, as fast as they are taken", "decrypted one by one, nothing is kept")
def tiny_records(ports, until):
    seen, peer = Counter(), Peer(ports["tls"], client_context())
    for byte in mqtt.connect(unique("tiny")):
        peer.send(bytes([byte]))
    pings = mqtt.PING
    while time.monotonic() < until:
        for byte in pings:
            if not peer.send(bytes([byte])):
                seen["ended"] += 1
                return seen
        seen["records"] += 2
    return seen


@attack("TLS: the connection is cut right after ClientHello", "nothing stays behind")
def early_close(ports, until):
    seen, hello = Counter(), client_hello()
    while time.monotonic() < until:
        peer = Peer(ports["tls"])
        peer.send(hello)
        peer.close()
        seen["cut"] += 1
    return seen


def main():
    name, ports, seconds = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
    seen = ATTACKS[name][3](ports, time.monotonic() + seconds)
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
