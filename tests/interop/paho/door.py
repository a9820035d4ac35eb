"""Paho Python through one door: `door.py SCHEME PORT TOPIC [CA [CERTIFICATE KEY]]`, SCHEME one of mqtts, ws, wss.

Publishes and receives messages of every QoS and of several sizes. Ends with 0 if all came, with 3 if the door is shut.
"""

import ssl
import sys
import threading

import paho.mqtt.client as mqtt

SECONDS = 20


def main():
    scheme, port, topic, *files = sys.argv[1:]
    transport = "tcp" if scheme == "mqtts" else "websockets"
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, transport=transport)
    if files:
        ca, certificate, key = (files + [None, None])[:3]
        client.tls_set(ca_certs=ca, certfile=certificate, keyfile=key)
    expected = [bytes([qos]) * size for qos in (0, 1, 2) for size in (1, 100, 200_000)]
    received, done = [], threading.Event()

    def on_connect(client, _data, _flags, reason, _properties):
        if reason.is_failure:
            done.set()
            return
        client.subscribe(topic, qos=2)

    def on_subscribe(client, *_):
        for payload in expected:
            client.publish(topic, payload, qos=payload[0])

    def on_message(_client, _data, message):
        received.append(message.payload)
        if len(received) == len(expected):
            done.set()

    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.on_disconnect = lambda *_: done.set()
    try:
        client.connect("localhost", int(port))
    except (ssl.SSLError, OSError, ValueError, mqtt.WebsocketConnectionError) as error:
        print(f"shut: {error}")
        return 3
    client.loop_start()
    done.wait(SECONDS)
    client.on_disconnect = None
    client.disconnect()
    client.loop_stop()
    print(f"{len(received)} of {len(expected)} messages")
    return 0 if sorted(received) == sorted(expected) else 3


sys.exit(main())
