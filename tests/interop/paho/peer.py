"""A Paho client whose events can be awaited: every wait ends as soon as its condition holds, or fails after LIMIT."""

import socket
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# Seconds until a wait has failed. Generous: it says "never", not "slow".
LIMIT = 30

LEVEL = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}


class Failed(Exception):
    """A check did not hold."""


def expect(got, wanted, what):
    if got != wanted:
        raise Failed(f"{what}: got {got!r}, wanted {wanted!r}")


def properties(packet, **values):
    """`properties("PUBLISH", TopicAlias=1)`; nothing at all for no values."""
    made = Properties(getattr(PacketTypes, packet))
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Peer:
    """One client. `connect` may be called once; `drop` cuts the connection without a DISCONNECT."""

    def __init__(self, broker, client_id, *, clean=True, will=None):
        self.broker = broker
        self.version5 = broker.version == "5.0"
        self.clean = clean
        self.changed = threading.Condition()
        self.messages = []
        self.connack = None
        self.closed = None
        self.published = {}
        self.granted = {}
        self.unsubscribed = {}
        clean_session = None if self.version5 else clean
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=clean_session,
            protocol=LEVEL[broker.version],
            reconnect_on_failure=False,
        )
        self.client.on_connect = lambda _c, _u, flags, code, props: self._set(connack=(flags, code, props))
        self.client.on_disconnect = lambda _c, _u, _flags, code, _props: self._set(closed=code)
        self.client.on_message = lambda _c, _u, message: self._add(self.messages.append, message)
        self.client.on_publish = lambda _c, _u, mid, code, _props: self._put(self.published, mid, code)
        self.client.on_subscribe = lambda _c, _u, mid, codes, _props: self._put(self.granted, mid, codes)
        self.client.on_unsubscribe = lambda _c, _u, mid, codes, _props: self._put(self.unsubscribed, mid, codes)
        if will:
            self.client.will_set(**will)

    def _set(self, **values):
        with self.changed:
            vars(self).update(values)
            self.changed.notify_all()

    def _put(self, table, key, value):
        with self.changed:
            table[key] = value
            self.changed.notify_all()

    def _add(self, append, value):
        with self.changed:
            append(value)
            self.changed.notify_all()

    def wait(self, what, condition):
        with self.changed:
            if not self.changed.wait_for(condition, LIMIT):
                seen = [(m.topic, m.payload[:40]) for m in self.messages]
                raise Failed(f"{what}: did not happen within {LIMIT} s; messages so far: {seen}")

    def connect(self, keepalive=60, **connect_properties):
        more = {}
        if self.version5:
            more["clean_start"] = self.clean
            more["properties"] = properties("CONNECT", **connect_properties)
        self.client.connect("127.0.0.1", self.broker.port, keepalive, **more)
        self.client.loop_start()
        self.wait("CONNACK", lambda: self.connack is not None)
        if self.connack[1].is_failure:
            raise Failed(f"connection refused: {self.connack[1]}")
        return self

    @property
    def session_present(self):
        return self.connack[0].session_present

    def subscribe(self, *filters, **subscribe_properties):
        """Subscribes to (filter, QoS or SubscribeOptions) pairs; the reason codes as numbers."""
        more = {"properties": properties("SUBSCRIBE", **subscribe_properties)} if subscribe_properties else {}
        if self.version5:
            filters = [(f, mqtt.SubscribeOptions(o) if isinstance(o, int) else o) for f, o in filters]
        _rc, mid = self.client.subscribe(list(filters), **more)
        self.wait("SUBACK", lambda: mid in self.granted)
        return [code.value for code in self.granted[mid]]

    def unsubscribe(self, *filters):
        _rc, mid = self.client.unsubscribe(list(filters))
        self.wait("UNSUBACK", lambda: mid in self.unsubscribed)
        return [code.value for code in self.unsubscribed[mid]]

    def publish(self, topic, payload, qos=0, retain=False, **publish_properties):
        """Publishes and waits for the acknowledgement; its reason code as a number."""
        more = {"properties": properties("PUBLISH", **publish_properties)} if publish_properties else {}
        info = self.client.publish(topic, payload, qos, retain, **more)
        self.wait(f"QoS {qos} publish to {topic!r} acknowledged", lambda: info.mid in self.published)
        return self.published[info.mid].value

    def receive(self, count):
        """The next `count` messages, taken."""
        self.wait(f"{count} messages", lambda: len(self.messages) >= count)
        with self.changed:
            taken, self.messages[:] = self.messages[:count], self.messages[count:]
        return taken

    def expect_only(self, publisher, fence, payloads, what):
        """Exactly `payloads` arrive before a last message to `fence`, a topic this client is subscribed to."""
        # Retained messages may come after live ones of other topics: wait for what is wanted first.
        self.wait(what, lambda: len(self.messages) >= len(payloads))
        publisher.publish(fence, b"fence", 1)
        wanted = list(payloads) + [b"fence"]
        self.wait(what, lambda: any(m.payload == b"fence" for m in self.messages))
        expect([m.payload for m in self.receive(len(self.messages))], wanted, what)

    def wait_closed(self, reason):
        """The broker closes the connection; in version 5 with a DISCONNECT that says `reason`."""
        self.wait("connection closed by the broker", lambda: self.closed is not None)
        self.client.loop_stop()
        # Paho 2.1 reads the reason code of a DISCONNECT only when properties follow it, else it reports 0; without
        # any DISCONNECT it reports 0x80. The other clients check the code itself.
        if self.version5 and self.closed.value not in (reason, 0):
            raise Failed(f"closed with {self.closed}, wanted DISCONNECT {reason:#x}")

    def disconnect(self, reason=None, **disconnect_properties):
        if self.version5 and (reason or disconnect_properties):
            code = mqtt.ReasonCode(PacketTypes.DISCONNECT, identifier=reason or 0)
            self.client.disconnect(reasoncode=code, properties=properties("DISCONNECT", **disconnect_properties))
        else:
            self.client.disconnect()
        self.wait("own disconnect", lambda: self.closed is not None)
        self.client.loop_stop()

    def drop(self):
        """Cuts the connection as a crash would: no DISCONNECT."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.wait("connection cut", lambda: self.closed is not None)
        self.client.loop_stop()


class Broker:
    """The broker under test: where it is, which version to speak, and names nobody else uses."""

    def __init__(self, port, version, prefix):
        self.port = port
        self.version = version
        self.prefix = prefix
        self.peers = []
        self.numbers = 0

    def topic(self, name):
        return f"{self.prefix}/{name}"

    def client_id(self, name):
        # 3.1 allows 23 characters.
        self.numbers += 1
        return f"{self.prefix[-12:]}-{self.numbers}-{name}"[:23]

    def peer(self, name, *, client_id=None, clean=True, will=None, **connect):
        made = Peer(self, client_id if client_id is not None else self.client_id(name), clean=clean, will=will)
        self.peers.append(made)
        return made.connect(**connect)

    def close(self):
        for peer in self.peers:
            if peer.closed is None and peer.connack is not None:
                peer.client.disconnect()
            peer.client.loop_stop()
        self.peers.clear()


def until(what, condition):
    """Tries `condition` again and again (for what only the broker's clock brings about)."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: did not happen within {LIMIT} s")
        time.sleep(0.05)
