// MQTT.js in a page of a real browser: `browser.js CHROMIUM PORT TOPIC PAGE_PORT`, PORT that of a WebSocket listener.
//
// Serves the page at PAGE_PORT, opens it in Chromium without a window, and waits for the page to say how it went. Ends with
// 0 if messages of every QoS and of several sizes came back, with 3 if the door is shut, with 1 otherwise.
'use strict';
const { spawn } = require('child_process');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');

const MILLISECONDS = 45_000;

const [chromium, port, topic, pagePort] = process.argv.slice(2);
const library = path.join(path.dirname(require.resolve('mqtt')), '..', 'dist', 'mqtt.min.js');

const page = `<!doctype html><script src="/mqtt.js"></script><script>
const end = (code, why) => fetch('/end', { method: 'POST', body: JSON.stringify({ code, why }) });
const expected = [0, 1, 2].flatMap((qos) => [1, 100, 200000].map((size) => ({ qos, size })));
const received = [];
const client = mqtt.connect('ws://127.0.0.1:${port}/mqtt', { protocolVersion: 5, reconnectPeriod: 0 });
client.on('error', (error) => end(3, 'shut: ' + error.message));
client.on('close', () => end(3, 'shut: closed'));
client.on('connect', () => client.subscribe('${topic}', { qos: 2 }, () => {
  for (const { qos, size } of expected) client.publish('${topic}', new Uint8Array(size).fill(qos), { qos });
}));
client.on('message', (name, payload, packet) => {
  const isWhole = payload.every((byte) => byte === packet.qos);
  received.push(isWhole ? packet.qos + ' ' + payload.length : 'damaged');
  if (received.length < expected.length) return;
  const wanted = expected.map(({ qos, size }) => qos + ' ' + size);
  const isAll = received.sort().join() === wanted.sort().join();
  end(isAll ? 0 : 1, received.length + ' messages in ' + navigator.userAgent);
});
</script>`;

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'ringmq-browser-'));
let browser;
const end = (code, why) => {
  console.log(why);
  browser?.kill('SIGKILL');
  setTimeout(() => {
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    process.exit(code);
  }, 200);
};

http
  .createServer((request, response) => {
    if (request.url === '/end') {
      let body = '';
      request.on('data', (part) => (body += part));
      request.on('end', () => {
        response.end();
        const { code, why } = JSON.parse(body);
        end(code, why);
      });
    } else if (request.url === '/mqtt.js') {
      response.setHeader('Content-Type', 'text/javascript');
      fs.createReadStream(library).pipe(response);
    } else {
      response.setHeader('Content-Type', 'text/html');
      response.end(page);
    }
  })
  .listen(Number(pagePort), '127.0.0.1', () => {
    // Root has no sandbox, and a container little shared memory; the page is our own.
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'];
    browser = spawn(chromium, [...flags, `--user-data-dir=${profile}`, `http://127.0.0.1:${pagePort}/`], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    browser.on('error', (error) => end(1, `${chromium}: ${error.message}`));
  });
setTimeout(() => end(1, 'the page says nothing'), MILLISECONDS);
