// MQTT.js through one door: `door.js SCHEME PORT TOPIC [CA [CERTIFICATE KEY]]`, SCHEME one of mqtts, ws, wss.
//
// Publishes and receives messages of every QoS and of several sizes. Ends with 0 if all came, with 3 if the door is shut.
// NODE_PATH says where the pinned MQTT.js is.
'use strict';
const fs = require('fs');
const mqtt = require('mqtt');

const MILLISECONDS = 20_000;

const [scheme, port, topic, ca, certificate, key] = process.argv.slice(2);
const read = (path) => (path ? fs.readFileSync(path) : undefined);
const end = (code, why) => {
  console.log(why);
  process.exit(code);
};

const expected = [0, 1, 2].flatMap((qos) => [1, 100, 200_000].map((size) => Buffer.alloc(size, qos)));
const received = [];
const client = mqtt.connect(`${scheme}://localhost:${port}/mqtt`, {
  protocolVersion: 5,
  reconnectPeriod: 0,
  ca: read(ca),
  cert: read(certificate),
  key: read(key),
});
client.on('error', (error) => end(3, `shut: ${error.message}`));
client.on('close', () => end(3, 'shut: closed'));
client.on('connect', () => {
  client.subscribe(topic, { qos: 2 }, () => {
    expected.forEach((payload) => client.publish(topic, payload, { qos: payload[0] }));
  });
});
client.on('message', (_topic, payload) => {
  received.push(payload);
  if (received.length < expected.length) return;
  const sorted = (list) => [...list].sort(Buffer.compare).map((payload) => payload.toString('hex')).join();
  end(sorted(received) === sorted(expected) ? 0 : 1, `${received.length} messages`);
});
setTimeout(() => end(3, `${received.length} of ${expected.length} messages`), MILLISECONDS);
