// What every version of the protocol promises.
'use strict';
const assert = require('node:assert/strict');

const texts = (messages) => messages.map(({ payload }) => String(payload));
const numbers = (count) => Array.from({ length: count }, (_, number) => String(number));

// Options of a connection whose session outlives it.
function keeping(broker, clientId) {
  const properties = broker.version === '5.0' ? { sessionExpiryInterval: 300 } : undefined;
  return { clientId, clean: false, resubscribe: false, properties };
}

module.exports = {
  async connects(broker) {
    const peer = await broker.peer('connect');
    assert.equal(peer.connack.sessionPresent, false);
    await peer.disconnect();
  },

  async every_qos_pair_delivers_at_the_lower_qos(broker) {
    const publisher = await broker.peer('pub');
    for (const granted of [0, 1, 2]) {
      const subscriber = await broker.peer(`sub${granted}`);
      const [grant] = await subscriber.subscribe(broker.topic('qos'), { qos: granted });
      assert.equal(grant.qos, granted);
      for (const sent of [0, 1, 2]) {
        await publisher.publish(broker.topic('qos'), `${sent} to ${granted}`, { qos: sent });
        const [message] = await subscriber.receive(1);
        assert.deepEqual([String(message.payload), message.qos], [`${sent} to ${granted}`, Math.min(sent, granted)]);
      }
      await subscriber.disconnect();
    }
  },

  async any_payload_arrives_unchanged(broker) {
    const [subscriber, publisher] = [await broker.peer('sub'), await broker.peer('pub')];
    await subscriber.subscribe(broker.topic('bytes/#'), { qos: 1 });
    for (const payload of [Buffer.alloc(0), Buffer.from(numbers(256).map(Number)), Buffer.alloc(300_000, 'x')]) {
      await publisher.publish(broker.topic('bytes/Grüße/€'), payload, { qos: 1 });
      const [message] = await subscriber.receive(1);
      assert.ok(message.payload.equals(payload), `payload of ${payload.length} bytes unchanged`);
      assert.equal(message.topic, broker.topic('bytes/Grüße/€'));
    }
  },

  async one_publisher_stays_in_order(broker) {
    const [subscriber, publisher] = [await broker.peer('sub'), await broker.peer('pub')];
    await subscriber.subscribe(broker.topic('order'), { qos: 2 });
    for (const qos of [0, 1, 2]) {
      // In bursts, since MQTT.js does not look at the broker's Receive Maximum.
      for (let start = 0; start < 300; start += 15) {
        const burst = numbers(300).slice(start, start + 15);
        await Promise.all(burst.map((payload) => publisher.publish(broker.topic('order'), payload, { qos })));
      }
      assert.deepEqual(texts(await subscriber.receive(300)), numbers(300), `QoS ${qos}`);
    }
  },

  async wildcards_match_whole_levels(broker) {
    const publisher = await broker.peer('pub');
    const names = ['a', 'a/b', 'a/b/c', 'a/', '/a', 'ab'];
    const cases = {
      'w/+': ['a', 'ab'], 'w/a/+': ['a/b', 'a/'], 'w/a/#': ['a', 'a/b', 'a/b/c', 'a/'], 'w/+/a': ['/a'], 'w/#': names,
    };
    for (const [pattern, wanted] of Object.entries(cases)) {
      const subscriber = await broker.peer('sub');
      await subscriber.subscribe([broker.topic(pattern), broker.topic('fence')], { qos: 1 });
      for (const name of names) await publisher.publish(broker.topic(`w/${name}`), name, { qos: 1 });
      await subscriber.expectOnly(publisher, broker.topic('fence'), wanted, pattern);
      await subscriber.disconnect();
    }
  },

  async unsubscribe_ends_delivery(broker) {
    const [subscriber, publisher] = [await broker.peer('sub'), await broker.peer('pub')];
    await subscriber.subscribe([broker.topic('gone'), broker.topic('fence')], { qos: 1 });
    await subscriber.client.unsubscribeAsync(broker.topic('gone'));
    await publisher.publish(broker.topic('gone'), 'unwanted', { qos: 1 });
    await subscriber.expectOnly(publisher, broker.topic('fence'), [], 'nothing after UNSUBACK');
  },

  async retained_is_kept_replaced_and_cleared(broker) {
    const publisher = await broker.peer('pub');
    const topic = broker.topic('retained');
    for (const payload of ['first', 'second']) await publisher.publish(topic, payload, { qos: 1, retain: true });
    const late = await broker.peer('late');
    await late.subscribe(topic, { qos: 1 });
    const [message] = await late.receive(1);
    assert.deepEqual([String(message.payload), message.retain], ['second', true]);
    await publisher.publish(topic, '', { qos: 1, retain: true });
    const later = await broker.peer('later');
    await later.subscribe([topic, broker.topic('fence')], { qos: 1 });
    await later.expectOnly(publisher, broker.topic('fence'), [], 'nothing retained after an empty payload');
  },

  async will_is_published_when_the_connection_breaks(broker) {
    const watcher = await broker.peer('watch');
    await watcher.subscribe(broker.topic('will/#'), { qos: 1 });
    const cut = await broker.peer('cut', { will: { topic: broker.topic('will/cut'), payload: 'gone', qos: 1 } });
    await cut.drop();
    assert.deepEqual(texts(await watcher.receive(1)), ['gone']);
    const bye = await broker.peer('bye', { will: { topic: broker.topic('will/bye'), payload: 'unwanted', qos: 1 } });
    await bye.disconnect();
    await watcher.expectOnly(await broker.peer('pub'), broker.topic('will/fence'), [], 'no will after DISCONNECT');
  },

  async session_resumes_with_what_was_queued(broker) {
    const [clientId, topic] = [broker.clientId('keep'), broker.topic('queued')];
    const first = await broker.peer('keep', keeping(broker, clientId));
    await first.subscribe(topic, { qos: 2 });
    await first.disconnect();
    const publisher = await broker.peer('pub');
    for (const payload of numbers(40)) await publisher.publish(topic, payload, { qos: 1 + (payload % 2) });
    const again = await broker.peer('keep', keeping(broker, clientId));
    assert.equal(again.connack.sessionPresent, true);
    const queued = await again.receive(40);
    for (const qos of [1, 2]) {
      const wanted = numbers(40).filter((payload) => 1 + (payload % 2) === qos);
      assert.deepEqual(texts(queued.filter((message) => message.qos === qos)), wanted, `queued at QoS ${qos}`);
    }
    await again.disconnect();
    const fresh = await broker.peer('keep', { clientId });
    assert.equal(fresh.connack.sessionPresent, false);
  },

  async second_connection_takes_the_session_over(broker) {
    const [clientId, topic] = [broker.clientId('twin'), broker.topic('twin')];
    const first = await broker.peer('twin', keeping(broker, clientId));
    await first.subscribe(topic, { qos: 1 });
    const second = await broker.peer('twin', keeping(broker, clientId));
    await first.wait('first connection closed', () => first.closed);
    assert.equal(second.connack.sessionPresent, true);
    const publisher = await broker.peer('pub');
    await publisher.publish(topic, 'to the second', { qos: 1 });
    assert.deepEqual(texts(await second.receive(1)), ['to the second']);
    if (broker.version === '5.0') assert.equal((await first.packet('disconnect')).reasonCode, 0x8e);
  },

  async ping_is_answered(broker) {
    const peer = await broker.peer('ping', { keepalive: 1 });
    await peer.packet('pingresp');
    assert.equal(peer.closed, false);
  },
};
