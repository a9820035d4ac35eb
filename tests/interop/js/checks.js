// MQTT.js against a broker: `checks.js PORT VERSION PREFIX`, VERSION 3.1.1 or 5.0.
//
// Prints a line a check and ends with 1 if one failed. PREFIX keeps topics and client ids apart from other runs.
// NODE_PATH says where the pinned MQTT.js is.
'use strict';
const { Broker } = require('./peer.js');

async function holds([name, check], broker) {
  const title = name.replaceAll('_', ' ');
  try {
    await check(broker);
  } catch (failure) {
    console.log(`FAILED ${title}: ${failure.stack}`);
    return false;
  } finally {
    await broker.close();
  }
  console.log(`ok     ${title}`);
  return true;
}

async function main([port, version, prefix]) {
  const checks = Object.entries({ ...require('./every_version.js'), ...(version === '5.0' ? require('./version5.js') : {}) });
  let passed = 0;
  for (const [number, check] of checks.entries()) {
    passed += await holds(check, new Broker(Number(port), version, `${prefix}${number}`));
  }
  console.log(`${passed} of ${checks.length} checks hold with MQTT.js, MQTT ${version}`);
  process.exit(passed === checks.length ? 0 : 1);
}

main(process.argv.slice(2));
