// What version 5.0 adds.
'use strict';
const assert = require('node:assert/strict');
const { until } = require('./peer.js');

module.exports = {
  async properties_reach_the_subscriber_unchanged(broker) {
    const [subscriber, publisher] = [await broker.peer('sub'), await broker.peer('pub')];
    await subscriber.subscribe(broker.topic('props'), { qos: 1, properties: { subscriptionIdentifier: 77 } });
    const sent = {
      userProperties: { b: ['2', '3'], a: '1', ü: '' },
      contentType: 'text/plain',
      payloadFormatIndicator: true,
      responseTopic: broker.topic('answers'),
      correlationData: Buffer.from([0, 1, 254, 255]),
    };
    await publisher.publish(broker.topic('props'), 'text', { qos: 1, properties: sent });
    const { subscriptionIdentifier, userProperties, ...got } = (await subscriber.receive(1))[0].properties;
    assert.equal(subscriptionIdentifier, 77);
    assert.deepEqual({ ...got, userProperties: { ...userProperties } }, sent);
  },

  async request_finds_its_response(broker) {
    const [asker, responder] = [await broker.peer('ask'), await broker.peer('respond')];
    await asker.subscribe(broker.topic('answers'), { qos: 1 });
    await responder.subscribe(broker.topic('questions'), { qos: 1 });
    const properties = { responseTopic: broker.topic('answers'), correlationData: Buffer.from('q1') };
    await asker.publish(broker.topic('questions'), '6 * 7', { qos: 1, properties });
    const [{ properties: back }] = await responder.receive(1);
    await responder.publish(back.responseTopic, '42', { qos: 1, properties: { correlationData: back.correlationData } });
    const [answer] = await asker.receive(1);
    assert.deepEqual([String(answer.payload), String(answer.properties.correlationData)], ['42', 'q1']);
  },

  async message_expires_and_its_interval_counts_down(broker) {
    const publisher = await broker.peer('pub');
    const topic = broker.topic('expiry');
    const send = (name, messageExpiryInterval) =>
      publisher.publish(`${topic}/${name}`, name, { qos: 1, retain: true, properties: { messageExpiryInterval } });
    await send('long', 100);
    await send('short', 1);
    await until('the short message expires and the interval of the long one counts down', async () => {
      const reader = await broker.peer('read');
      const find = (name) => reader.messages.find(({ payload }) => String(payload) === name);
      await reader.subscribe(`${topic}/+`, { qos: 1 });
      await publisher.publish(`${topic}/fence`, 'fence', { qos: 1 });
      await reader.wait('the long message and the fence', () => find('long') && find('fence'));
      await reader.disconnect();
      const left = find('long').properties.messageExpiryInterval;
      assert.ok(left > 0 && left <= 100, `${left} s left of 100`);
      return !find('short') && left < 100;
    });
    await publisher.publish(`${topic}/long`, '', { qos: 1, retain: true });
  },

  async shared_subscription_delivers_once_to_the_group(broker) {
    const [first, second, publisher] = [await broker.peer('one'), await broker.peer('two'), await broker.peer('pub')];
    for (const member of [first, second]) await member.subscribe(`$share/group/${broker.topic('jobs')}`, { qos: 1 });
    const sent = Array.from({ length: 60 }, (_, number) => number);
    for (const number of sent) await publisher.publish(broker.topic('jobs'), String(number), { qos: 1 });
    const group = () => [...first.messages, ...second.messages].map(({ payload }) => Number(payload));
    await until('the group has all', () => group().length >= 60);
    assert.deepEqual(group().sort((a, b) => a - b), sent);
  },

  async topic_aliases_work_both_ways(broker) {
    const subscriber = await broker.peer('sub', { properties: { topicAliasMaximum: 10 } });
    const publisher = await broker.peer('pub', { autoAssignTopicAlias: true });
    assert.ok(publisher.connack.properties.topicAliasMaximum > 0, 'the broker takes topic aliases');
    await subscriber.subscribe(broker.topic('alias/+'), { qos: 1 });
    const topics = ['a', 'b', 'a', 'b', 'a'].map((name) => broker.topic(`alias/${name}`));
    // MQTT.js sends each topic once and its alias from then on, and puts aliases it gets back into topics.
    for (const topic of topics) await publisher.publish(topic, topic, { qos: 1 });
    const got = await subscriber.receive(topics.length);
    assert.deepEqual(got.map(({ topic }) => topic), topics);
    assert.deepEqual(got.map(({ payload }) => String(payload)), topics);
  },

  async reason_codes_tell_what_happened(broker) {
    const peer = await broker.peer('codes');
    await peer.publish(broker.topic('nobody'), '', { qos: 1 });
    assert.equal((await peer.packet('puback')).reasonCode, 0x10);
    peer.client.unsubscribe(broker.topic('nobody'), () => {});
    assert.deepEqual((await peer.packet('unsuback')).granted, [0x11]);
  },

  async topic_alias_beyond_the_maximum_is_refused(broker) {
    const peer = await broker.peer('alias');
    const topicAlias = peer.connack.properties.topicAliasMaximum + 1;
    // Below the client's own check of the maximum.
    const generate = require('mqtt-packet').generate;
    const packet = { cmd: 'publish', topic: broker.topic('alias'), payload: '', qos: 0, properties: { topicAlias } };
    peer.client.stream.write(generate(packet, { protocolVersion: 5 }));
    assert.equal((await peer.packet('disconnect')).reasonCode, 0x94);
    await peer.wait('closed', () => peer.closed);
  },

  async subscription_options_are_kept(broker) {
    const [peer, other] = [await broker.peer('self'), await broker.peer('other')];
    const [topic, fence] = [broker.topic('options'), broker.topic('fence')];
    await peer.subscribe(fence, { qos: 1 });
    await peer.subscribe(topic, { qos: 1, nl: true, rap: true });
    await peer.publish(topic, 'own', { qos: 1 });
    await other.publish(topic, 'kept', { qos: 1, retain: true });
    const [message] = await peer.receive(1);
    assert.deepEqual([String(message.payload), message.retain], ['kept', true], 'no local, retain as published');
    for (const [rh, wanted] of [[0, ['kept']], [1, []], [2, []]]) {
      await peer.subscribe(topic, { qos: 1, rh });
      await peer.expectOnly(other, fence, wanted, `retain handling ${rh} on an existing subscription`);
    }
    await other.publish(topic, '', { qos: 1, retain: true });
  },

  async will_carries_properties_and_waits_for_its_delay(broker) {
    const watcher = await broker.peer('watch');
    await watcher.subscribe(broker.topic('will5'), { qos: 1 });
    const properties = { willDelayInterval: 1, contentType: 'text/plain', userProperties: { k: 'v' } };
    const will = { topic: broker.topic('will5'), payload: 'late', qos: 1, properties };
    await (await broker.peer('cut', { will, properties: { sessionExpiryInterval: 60 } })).drop();
    const [message] = await watcher.receive(1);
    assert.equal(String(message.payload), 'late');
    assert.equal(message.properties.contentType, 'text/plain');
    assert.deepEqual({ ...message.properties.userProperties }, { k: 'v' });
  },

  async session_expiry_decides_what_stays(broker) {
    const clientId = broker.clientId('expiry');
    const connect = (sessionExpiryInterval) =>
      broker.peer('expiry', { clientId, clean: false, properties: { sessionExpiryInterval } });
    await (await connect(0)).disconnect();
    const second = await connect(300);
    assert.equal(second.connack.sessionPresent, false, 'interval 0: the session ended with its connection');
    await second.disconnect();
    const third = await connect(300);
    assert.equal(third.connack.sessionPresent, true, 'within the interval: the session is there');
    await third.disconnect({ properties: { sessionExpiryInterval: 0 } });
    assert.equal((await connect(0)).connack.sessionPresent, false, 'the interval was set to 0 in DISCONNECT');
  },

  async limits_of_the_client_are_respected(broker) {
    const publisher = await broker.peer('pub');
    const subscriber = await broker.peer('sub', { properties: { maximumPacketSize: 500, receiveMaximum: 2 } });
    await subscriber.subscribe(broker.topic('limits'), { qos: 1 });
    for (const size of [10, 2000, 20]) await publisher.publish(broker.topic('limits'), 'x'.repeat(size), { qos: 1 });
    assert.deepEqual((await subscriber.receive(2)).map(({ payload }) => payload.length), [10, 20]);
    const sent = Array.from({ length: 100 }, (_, number) => String(number));
    for (const payload of sent) await publisher.publish(broker.topic('limits'), payload, { qos: 1 });
    assert.deepEqual((await subscriber.receive(100)).map(({ payload }) => String(payload)), sent);
  },
};
