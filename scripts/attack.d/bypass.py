"""Attempts to read and write what an ACL file forbids."""

import struct
from pathlib import Path

import mqtt
from broker import Broker
from mqtt import Peer, unique

# Anonymous clients may write to open/#, read open/# and what their own client id is part of.
RULES = """\
topic readwrite open/#
topic deny open/closed/#
pattern readwrite own/%c/#
"""
CONFIG = """\
acl-file = "{dir}/acl"
allow-anonymous = true

[[listener]]
address = {tcp}
allow-anonymous = true
"""
SECRET = b"secret"


def told(peer: Peer) -> str:
    """The next packet's reason code."""
    try:
        first, body = peer.next()
    except (OSError, ConnectionError):
        return "closed"
    kind = {4: "PUBACK", 5: "PUBREC", 9: "SUBACK", 14: "DISCONNECT", 2: "CONNACK"}.get(first >> 4, f"0x{first:02x}")
    code = {4: body[2:3], 5: body[2:3], 9: body[-1:], 14: body[:1], 2: body[1:2]}.get(first >> 4, b"")
    return f"{kind} 0x{code[0] if code else 0:02x}"


def heard(peer: Peer) -> list:
    """Topics of all that waits on a connection."""
    peer.send(mqtt.PING)
    topics = []
    while True:
        first, body = peer.next()
        if first == 0xD0:
            return topics
        if first >> 4 == 3:
            topics.append(mqtt.publish_parts(first, body)[0].decode())


def run(program: Path, directory: Path) -> tuple:
    """The attempts and their outcomes, and those that got through."""
    rows, through = [], []
    config = CONFIG
    acl = directory / "acl"
    acl.write_text(RULES)
    with Broker(program, directory, config=config.replace("{dir}/acl", str(acl))) as broker:
        port = broker.ports["tcp"]

        def watcher(filters) -> Peer:
            peer = Peer.connected(port, unique("watch"))
            peer.send(mqtt.subscribe(1, filters, 1))
            codes = peer.next()[1][3:]
            peer.granted = " ".join(f"0x{code:02x}" for code in codes)
            return peer

        def note(attempt: str, outcome: str, peers=(), allowed=()):
            leaked = [topic for peer in peers for topic in heard(peer) if topic not in allowed]
            if leaked:
                through.append(f"acl_bypass: {attempt}: {leaked}")
            rows.append((attempt, outcome + (f"; **{leaked} arrived**" if leaked else "; nothing arrived")))

        everything = watcher(["#", "+/#", "open/#", "$share/g/#"])
        secrets = watcher(["closed/#", "open/closed/#", "$share/g/closed/#", "own/other/#", "$CONTROL/#"])
        own = unique("c")
        peer = Peer.connected(port, own)

        def attempt(name, topic, **options):
            peer.send(mqtt.publish(topic, SECRET, 1, 1, **options))
            note(name, told(peer), (everything, secrets))

        attempt("publish to a topic that no rule names", "closed/t")
        attempt("publish below a denied part of an allowed tree", "open/closed/t")
        attempt("the same, retained", "open/closed/t", retain=True)
        attempt("publish with the name of another client in it", "own/other/t")
        attempt("publish to `$CONTROL/dynamic-security/v1`", "$CONTROL/dynamic-security/v1")
        attempt("publish to `$SYS/broker/uptime`", "$SYS/broker/uptime")
        attempt("a topic that begins like the allowed one", "opened/t")
        attempt("another case of letters", "Open/closed/t")
        attempt("empty levels", "/open/t")
        # An alias set with an allowed topic, then given to a forbidden one, then used by its number alone.
        alias = b"\x23" + struct.pack(">H", 1)
        peer.send(mqtt.publish("open/t", b"ok", 1, 1, properties=alias))
        first = told(peer)
        peer.send(mqtt.publish("closed/t", SECRET, 1, 1, properties=alias))
        second = told(peer)
        peer.send(mqtt.publish("", SECRET, 1, 1, properties=alias))
        note(
            "topic alias: set with an allowed topic, moved to a forbidden one, used",
            f"{first}, {second}, {told(peer)}",
            (everything, secrets),
            ("open/t",),
        )
        # A response topic is only a word to the broker; whoever answers is asked by the rules again.
        response = b"\x08" + mqtt.text("closed/answers")
        peer.send(mqtt.publish("open/ask", b"?", 1, 1, properties=response))
        asked = told(peer)
        answerer = Peer.connected(port, unique("answer"))
        answerer.send(mqtt.publish("closed/answers", SECRET, 1, 1))
        note("response topic that nobody may write", f"{asked}, the answer {told(answerer)}", (everything, secrets), ("open/ask",))
        for name, topic in (("will to a forbidden topic", "closed/will"), ("will below `$CONTROL`", "$CONTROL/x")):
            testator = Peer(port)
            testator.send(mqtt.connect(unique("will"), will=(topic, SECRET, 0)))
            outcome = told(testator)
            testator.close()
            note(name, outcome, (everything, secrets))
        # What a client may read of its own, retained and live, others must not see, whatever they subscribe to.
        victim = Peer.connected(port, "victim")
        victim.send(mqtt.publish("own/victim/kept", SECRET, 1, 1, retain=True))
        assert told(victim) == "PUBACK 0x00"
        for filter in (
            "closed/#",
            "open/closed/+",
            "own/victim/#",
            "$share/g/own/victim/#",
            "own/+/#",
            "$share/g/own/+/kept",
            "#",
            "+/+/+",
            "$share/g/#",
        ):
            reader = Peer.connected(port, unique("reader"))
            reader.send(mqtt.subscribe(1, [filter], 1))
            outcome = told(reader)
            victim.send(mqtt.publish("own/victim/live", SECRET, 1, 1))
            assert told(victim) == "PUBACK 0x00"
            note(f"subscribe to `{filter}`", outcome, (reader,))
            reader.close()
        # A client id that is a wildcard must not make a pattern of everybody's.
        for name in ("+", "#", "a/b"):
            reader = Peer(port)
            reader.send(mqtt.connect(name))
            connack = told(reader)
            reader.send(mqtt.subscribe(1, ["own/#"], 1))
            granted = told(reader)
            victim.send(mqtt.publish("own/victim/live", SECRET, 1, 1))
            assert told(victim) == "PUBACK 0x00"
            note(f"client id `{name}` in `pattern readwrite own/%c/#`", f"{connack}, {granted}", (reader,))
    return rows, through
