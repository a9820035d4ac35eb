"""What version 5.0 adds."""

from paho.mqtt.subscribeoptions import SubscribeOptions

from peer import expect, properties, until


def properties_reach_the_subscriber_unchanged(broker):
    subscriber, publisher = broker.peer("sub"), broker.peer("pub")
    subscriber.subscribe((broker.topic("props"), 1), SubscriptionIdentifier=77)
    pairs = [("b", "2"), ("a", "1"), ("b", "3"), ("ü", "")]
    publisher.publish(
        broker.topic("props"),
        "text",
        1,
        UserProperty=pairs,
        ContentType="text/plain",
        PayloadFormatIndicator=1,
        ResponseTopic=broker.topic("answers"),
        CorrelationData=bytes(range(256)),
    )
    got = subscriber.receive(1)[0].properties
    expect(got.UserProperty, pairs, "user properties")
    expect(got.ContentType, "text/plain", "content type")
    expect(got.PayloadFormatIndicator, 1, "payload format indicator")
    expect(got.ResponseTopic, broker.topic("answers"), "response topic")
    expect(got.CorrelationData, bytes(range(256)), "correlation data")
    expect(got.SubscriptionIdentifier, [77], "subscription identifier")


def request_finds_its_response(broker):
    asker, responder = broker.peer("ask"), broker.peer("respond")
    asker.subscribe((broker.topic("answers"), 1))
    responder.subscribe((broker.topic("questions"), 1))
    asker.publish(broker.topic("questions"), b"6 * 7", 1, ResponseTopic=broker.topic("answers"), CorrelationData=b"q1")
    [question] = responder.receive(1)
    back = question.properties
    responder.publish(back.ResponseTopic, b"42", 1, CorrelationData=back.CorrelationData)
    [answer] = asker.receive(1)
    expect((answer.payload, answer.properties.CorrelationData), (b"42", b"q1"), "answer")


def empty_client_id_is_assigned_one(broker):
    peer = broker.peer("anonymous", client_id="")
    expect(bool(peer.connack[2].AssignedClientIdentifier), True, "a client identifier is assigned")


def message_expires_and_its_interval_counts_down(broker):
    publisher = broker.peer("pub")
    publisher.publish(broker.topic("expiry/long"), b"long", 1, retain=True, MessageExpiryInterval=100)
    publisher.publish(broker.topic("expiry/short"), b"short", 1, retain=True, MessageExpiryInterval=1)

    def counted_down():
        reader = broker.peer("read")
        reader.subscribe((broker.topic("expiry/+"), 1))
        publisher.publish(broker.topic("expiry/fence"), b"fence", 1)
        found = lambda payload: [m for m in reader.messages if m.payload == payload]
        reader.wait("the long message and the fence", lambda: found(b"long") and found(b"fence"))
        reader.disconnect()
        left = found(b"long")[0].properties.MessageExpiryInterval
        expect(0 < left <= 100, True, f"{left} s left of 100")
        return not found(b"short") and left < 100

    until("the short message expires and the interval of the long one counts down", counted_down)
    publisher.publish(broker.topic("expiry/long"), b"", 1, retain=True)


def shared_subscription_delivers_once_to_the_group(broker):
    first, second, plain, publisher = (broker.peer(name) for name in ("one", "two", "plain", "pub"))
    for member in (first, second):
        member.subscribe((f"$share/group/{broker.topic('jobs')}", 1))
    plain.subscribe((broker.topic("jobs"), 1))
    sent = [b"%d" % number for number in range(60)]
    for payload in sent:
        publisher.publish(broker.topic("jobs"), payload, 1)
    expect([m.payload for m in plain.receive(60)], sent, "an ordinary subscription gets all")

    def group():
        return [m.payload for m in first.messages + second.messages]

    until("the group has all", lambda: len(group()) >= 60)
    expect(sorted(group(), key=int), sent, "each message once in the group")

    second.disconnect()
    first.messages.clear()
    for payload in sent:
        publisher.publish(broker.topic("jobs"), payload, 1)
    # One that was on its way to the member that left comes a little later; a group has no order.
    expect(sorted((m.payload for m in first.receive(60)), key=int), sent, "the member that stays gets all")


def topic_alias_stands_for_its_topic(broker):
    subscriber, publisher = broker.peer("sub"), broker.peer("pub")
    expect(publisher.connack[2].TopicAliasMaximum > 0, True, "the broker takes topic aliases")
    subscriber.subscribe((broker.topic("alias/+"), 1))
    publisher.publish(broker.topic("alias/one"), b"1", 1, TopicAlias=1)
    publisher.publish("", b"2", 1, TopicAlias=1)
    publisher.publish(broker.topic("alias/two"), b"3", 1, TopicAlias=1)
    publisher.publish("", b"4", 0, TopicAlias=1)
    one, two = broker.topic("alias/one"), broker.topic("alias/two")
    expect([m.topic for m in subscriber.receive(4)], [one, one, two, two], "topics behind the alias")


def topic_alias_beyond_the_maximum_is_refused(broker):
    publisher = broker.peer("pub")
    beyond = properties("PUBLISH", TopicAlias=publisher.connack[2].TopicAliasMaximum + 1)
    publisher.client.publish(broker.topic("alias"), b"", 0, properties=beyond)
    publisher.wait_closed(0x94)


def reason_codes_tell_what_happened(broker):
    peer = broker.peer("codes")
    expect(peer.publish(broker.topic("nobody"), b"", 1), 0x10, "PUBACK without subscribers")
    expect(peer.unsubscribe(broker.topic("nobody")), [0x11], "UNSUBACK of an unknown filter")
    peer.subscribe((broker.topic("somebody"), 2))
    expect(peer.publish(broker.topic("somebody"), b"", 1), 0x00, "PUBACK with a subscriber")
    expect(peer.publish(broker.topic("somebody"), b"", 2), 0x00, "PUBCOMP")
    expect(peer.unsubscribe(broker.topic("somebody")), [0x00], "UNSUBACK of a known filter")


def subscription_options_are_kept(broker):
    peer, other = broker.peer("self"), broker.peer("other")
    topic, fence = broker.topic("options"), broker.topic("fence")
    peer.subscribe((fence, 1), (topic, SubscribeOptions(1, noLocal=True, retainAsPublished=True)))
    peer.publish(topic, b"own", 1)
    other.publish(topic, b"kept", 1, retain=True)
    [message] = peer.receive(1)
    expect((message.payload, message.retain), (b"kept", True), "no local, retain as published")
    for handling, again, wanted in ((0, True, [b"kept"]), (1, True, []), (1, False, [b"kept"]), (2, False, [])):
        if not again:
            peer.unsubscribe(topic)
        peer.subscribe((topic, SubscribeOptions(1, retainHandling=handling)))
        what = f"retain handling {handling}, {'existing' if again else 'new'} subscription"
        peer.expect_only(other, fence, wanted, what)
    other.publish(topic, b"", 1, retain=True)


def will_carries_properties_and_waits_for_its_delay(broker):
    watcher = broker.peer("watch")
    watcher.subscribe((broker.topic("will5"), 1))
    about = properties("WILLMESSAGE", WillDelayInterval=1, ContentType="text/plain", UserProperty=[("k", "v")])
    will = {"topic": broker.topic("will5"), "payload": "late", "qos": 1, "properties": about}
    broker.peer("cut", will=will, SessionExpiryInterval=60).drop()
    [message] = watcher.receive(1)
    expect(message.payload, b"late", "will")
    expect(message.properties.ContentType, "text/plain", "content type of the will")
    expect(message.properties.UserProperty, [("k", "v")], "user property of the will")


def disconnect_can_ask_for_the_will(broker):
    watcher = broker.peer("watch")
    watcher.subscribe((broker.topic("will4"), 1))
    will = {"topic": broker.topic("will4"), "payload": "asked for", "qos": 1}
    broker.peer("ask", will=will).disconnect(reason=0x04)
    expect(watcher.receive(1)[0].payload, b"asked for", "will after DISCONNECT 0x04")


def session_expiry_decides_what_stays(broker):
    client_id = broker.client_id("expiry")
    broker.peer("a", client_id=client_id, clean=False).disconnect()
    second = broker.peer("b", client_id=client_id, clean=False, SessionExpiryInterval=300)
    expect(second.session_present, False, "no interval: the session ended with its connection")
    second.disconnect()
    third = broker.peer("c", client_id=client_id, clean=False, SessionExpiryInterval=300)
    expect(third.session_present, True, "within the interval: the session is there")
    third.disconnect(SessionExpiryInterval=0)
    fourth = broker.peer("d", client_id=client_id, clean=False)
    expect(fourth.session_present, False, "the interval was set to 0 in DISCONNECT")


def packet_too_large_for_the_client_is_left_out(broker):
    subscriber, publisher = broker.peer("sub", MaximumPacketSize=500), broker.peer("pub")
    subscriber.subscribe((broker.topic("size"), 1))
    for size in (10, 2000, 20):
        publisher.publish(broker.topic("size"), b"x" * size, 1)
    expect([len(m.payload) for m in subscriber.receive(2)], [10, 20], "payload sizes")


def receive_maximum_does_not_lose_anything(broker):
    subscriber, publisher = broker.peer("sub", ReceiveMaximum=2), broker.peer("pub")
    subscriber.subscribe((broker.topic("window"), 2))
    for qos in (1, 2):
        sent = [b"%d" % number for number in range(100)]
        for payload in sent:
            publisher.publish(broker.topic("window"), payload, qos)
        expect([m.payload for m in subscriber.receive(100)], sent, f"100 QoS {qos} messages through a window of 2")


CHECKS = [
    properties_reach_the_subscriber_unchanged,
    request_finds_its_response,
    empty_client_id_is_assigned_one,
    message_expires_and_its_interval_counts_down,
    shared_subscription_delivers_once_to_the_group,
    topic_alias_stands_for_its_topic,
    topic_alias_beyond_the_maximum_is_refused,
    reason_codes_tell_what_happened,
    subscription_options_are_kept,
    will_carries_properties_and_waits_for_its_delay,
    disconnect_can_ask_for_the_will,
    session_expiry_decides_what_stays,
    packet_too_large_for_the_client_is_left_out,
    receive_maximum_does_not_lose_anything,
]
