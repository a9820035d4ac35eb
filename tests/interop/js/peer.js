// An MQTT.js client whose events can be awaited: every wait ends as soon as its condition holds, or fails after LIMIT.
'use strict';
const assert = require('node:assert/strict');
const mqtt = require('mqtt');

// Milliseconds until a wait has failed. Generous: it says "never", not "slow".
const LIMIT = 30_000;
const LEVEL = { '3.1.1': 4, '5.0': 5 };

class Peer {
  constructor(broker, clientId, options) {
    this.messages = [];
    this.packets = [];
    this.waiting = [];
    this.closed = false;
    this.client = mqtt.connect({
      host: '127.0.0.1',
      port: broker.port,
      protocolVersion: LEVEL[broker.version],
      clientId,
      reconnectPeriod: 0,
      connectTimeout: LIMIT,
      ...options,
    });
    this.client.on('error', (error) => { this.error = error; this.wake(); });
    this.client.on('close', () => { this.closed = true; this.wake(); });
    this.client.on('packetreceive', (packet) => { this.packets.push(packet); this.wake(); });
    this.client.on('message', (topic, payload, packet) => {
      this.messages.push({ topic, payload, qos: packet.qos, retain: packet.retain, properties: packet.properties ?? {} });
      this.wake();
    });
  }

  wake() {
    this.waiting = this.waiting.filter(({ condition, resolve }) => !(condition() && (resolve(), true)));
  }

  wait(what, condition) {
    if (condition()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const seen = this.messages.map(({ topic, payload }) => `${topic}=${payload.subarray(0, 40)}`);
        reject(new Error(`${what}: did not happen within ${LIMIT / 1000} s; error ${this.error}; messages: ${seen}`));
      }, LIMIT);
      this.waiting.push({ condition, resolve: () => { clearTimeout(timer); resolve(); } });
    });
  }

  // The first packet of a kind that came in, waited for.
  async packet(cmd) {
    await this.wait(cmd, () => this.packets.some((packet) => packet.cmd === cmd));
    return this.packets.find((packet) => packet.cmd === cmd);
  }

  async connected() {
    this.connack = await this.packet('connack');
    await this.wait('connected', () => this.client.connected || this.error);
    assert.equal(this.error, undefined, 'connection refused');
    return this;
  }

  // The next `count` messages, taken.
  async receive(count) {
    await this.wait(`${count} messages`, () => this.messages.length >= count);
    return this.messages.splice(0, count);
  }

  subscribe(filter, options) {
    return this.client.subscribeAsync(filter, options);
  }

  publish(topic, payload, options) {
    return this.client.publishAsync(topic, payload, options);
  }

  // Exactly `payloads` arrive before a last message to `fence`, a topic this client is subscribed to.
  async expectOnly(publisher, fence, payloads, what) {
    // Retained messages may come after live ones of other topics: wait for what is wanted first.
    await this.wait(what, () => this.messages.length >= payloads.length);
    await publisher.publish(fence, 'fence', { qos: 1 });
    await this.wait(what, () => this.messages.some(({ payload }) => payload.equals(Buffer.from('fence'))));
    assert.deepEqual(this.messages.splice(0).map(({ payload }) => String(payload)), [...payloads, 'fence'], what);
  }

  async disconnect(packet = {}) {
    await this.client.endAsync(false, packet);
    this.closed = true;
  }

  // Cuts the connection as a crash would: no DISCONNECT.
  async drop() {
    this.client.stream.destroy();
    await this.wait('connection cut', () => this.closed);
  }
}

// The broker under test: where it is, which version to speak, and names nobody else uses.
class Broker {
  constructor(port, version, prefix) {
    Object.assign(this, { port, version, prefix, peers: [], numbers: 0 });
  }

  topic(name) {
    return `${this.prefix}/${name}`;
  }

  clientId(name) {
    this.numbers += 1;
    return `${this.prefix}-${this.numbers}-${name}`;
  }

  peer(name, { clientId = this.clientId(name), ...options } = {}) {
    const made = new Peer(this, clientId, options);
    this.peers.push(made);
    return made.connected();
  }

  async close() {
    await Promise.all(this.peers.map((peer) => peer.closed || peer.client.endAsync(true)));
  }
}

// Tries `condition` again and again (for what only the broker's clock brings about).
async function until(what, condition) {
  const deadline = Date.now() + LIMIT;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `${what}: did not happen within ${LIMIT / 1000} s`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
}

module.exports = { Broker, until };
