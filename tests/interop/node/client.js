// A client on @grpc/grpc-js.
//
// usage: client.js SOCKET SCENARIO SANDBOX_ID SEEN_SOCKET
//
// PROTOS: the folders of the .proto files, with colons between them.
'use strict';

const assert = require('node:assert/strict');
const readline = require('node:readline');
const { setTimeout: sleep } = require('node:timers/promises');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const PATIENCE = 30000;
const MESSAGE_MAX = 4 << 20;
const ROUTED_MAX = 512 << 10; // the largest answer of a sandbox, with its envelope
const TEXT = 'früher 100% – 終わり';
const PARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const Code = grpc.status;

const definition = loader.loadSync(
  ['sandboxd/test/v1/echo.proto', 'grpc/health/v1/health.proto', 'google/rpc/status.proto'],
  { includeDirs: process.env.PROTOS.split(':'), keepCase: true, longs: Number, defaults: true },
);
const api = grpc.loadPackageDefinition(definition);
const { EchoService } = api.sandboxd.test.v1;
const { Health } = api.grpc.health.v1;

const [socket, scenario, sandbox, seenSocket] = process.argv.slice(2);

function connect(path, options = {}) {
  return new EchoService(`unix:${path}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
    ...options,
  });
}

const pings = {
  'grpc.keepalive_time_ms': 200,
  'grpc.keepalive_timeout_ms': 1000,
  'grpc.keepalive_permit_without_calls': 1,
};
const echo = connect(socket, scenario === 'keepalive' ? pings : {});
const observer = connect(seenSocket);

const inTime = (millis = PATIENCE) => ({ deadline: Date.now() + millis });

// A unary call as a promise; `started` gets the call.
function call(client, method, request, { metadata, options = inTime(), started } = {}) {
  return new Promise((resolve, reject) => {
    const under = client[method](request, metadata ?? new grpc.Metadata(), options,
      (error, response) => (error ? reject(error) : resolve(response)));
    if (started) started(under);
  });
}

const unary = (fields = {}, how = {}) => call(echo, 'Unary', { sandbox_id: sandbox, ...fields }, how);

async function refused(code, promise, message) {
  const error = await promise.then(() => assert.fail(`was to fail with ${Code[code]}`), (e) => e);
  assert.equal(Code[error.code], Code[code], error.message);
  if (message !== undefined) assert.equal(error.details, message);
  return error;
}

let keys = 0;
const newKey = () => `${process.pid}-${Date.now()}-${keys++}`;

async function awaitSeen(key, what, wanted) {
  for (const end = Date.now() + 10000; ; await sleep(10)) {
    const seen = await call(observer, 'Seen', { key });
    if (wanted(seen)) return;
    assert(Date.now() < end, `the server never saw the call ${what}: ${JSON.stringify(seen)}`);
  }
}

const awaitCancelled = (key) =>
  awaitSeen(key, 'cancelled', (seen) => seen.cancelled === 1 && seen.finished === 1);

// Whether the server that answers a unary call learns that it was cancelled. Between servers that is
// ttrpc, which has no word for it: there a deadline, or the connection's end.
const cancelReaches = !sandbox;

const count = (fields) => echo.Count({ sandbox_id: sandbox, ...fields }, inTime());

function sum(feed) {
  return new Promise((resolve, reject) => {
    feed(echo.Sum(inTime(), (error, response) => (error ? reject(error) : resolve(response))));
  });
}

// Writes, and waits where the stream says that it is full.
async function write(stream, message) {
  if (!stream.write(message)) await new Promise((resolve) => stream.once('drain', resolve));
}

class Chat {
  constructor() {
    this.call = echo.Chat(inTime());
    this.answers = this.call[Symbol.asyncIterator]();
  }

  async exchange(fields = {}) {
    this.call.write({ sandbox_id: sandbox, ...fields });
    const { value, done } = await this.answers.next();
    assert(!done, 'the stream has ended');
    return value;
  }

  async finish() {
    this.call.end();
    assert((await this.answers.next()).done, 'there is more');
  }
}

const requestSize = (fields) =>
  EchoService.service.Unary.requestSerialize({ sandbox_id: sandbox, ...fields }).length;

// The size of the answer on the wire. Without a deadline, as that would be in the answer.
const answerSize = (fields) => new Promise((resolve, reject) => {
  const { path, requestSerialize } = EchoService.service.Unary;
  echo.makeUnaryRequest(path, requestSerialize, (raw) => raw.length, { sandbox_id: sandbox, ...fields },
    new grpc.Metadata(), {}, (error, size) => (error ? reject(error) : resolve(size)));
});

// A request that is so large when serialized.
function sized(size) {
  const fields = { payload: Buffer.alloc(size - 64), response_size: 1 };
  fields.payload = Buffer.alloc(2 * size - 64 - requestSize(fields));
  assert.equal(requestSize(fields), size);
  return fields;
}

// A request whose answer is so large when serialized.
async function answered(size) {
  return { response_size: 2 * size - 4096 - await answerSize({ response_size: size - 4096 }) };
}

const scenarios = {
  async unary() {
    const payload = Buffer.from('\0payload\xff', 'latin1');
    assert.deepEqual((await unary({ payload })).payload, payload);
    const response = await unary({}, { options: {} });
    assert.equal(response.payload.length, 0);
    assert.equal(response.timeout_nanos, 0);
  },

  async metadata() {
    const metadata = new grpc.Metadata();
    metadata.set('x-plain', 'some value');
    metadata.set('x-raw-bin', Buffer.from('ff0080', 'hex'));
    metadata.set('traceparent', PARENT);
    const key = newKey();
    const got = (await unary({ key }, { metadata })).metadata;
    assert.equal(got.traceparent, PARENT);
    if (sandbox) { // what may be a secret is not for a sandbox
      assert.deepEqual(Object.keys(got), ['traceparent']);
    } else {
      assert.equal(got['x-plain'], 'some value');
      assert.equal(got['x-raw-bin'].replace(/=*$/, ''), '/wCA'); // as on the wire
    }
    await awaitSeen(key, 'with its traceparent', (seen) => seen.traceparent === PARENT);
  },

  async error() {
    await refused(Code.FAILED_PRECONDITION, unary({ ending: { code: 9, message: TEXT } }), TEXT);
  },

  async details() {
    const one = { type_url: 'type.googleapis.com/sandboxd.test.v1.EchoServiceSeenRequest' };
    one.value = EchoService.service.Seen.requestSerialize({ key: TEXT });
    const ending = { code: 10, message: TEXT, details: [one, one] };
    const error = await refused(Code.ABORTED, unary({ ending }), TEXT);
    const [raw] = error.metadata.get('grpc-status-details-bin');
    const status = definition['google.rpc.Status'].deserialize(raw);
    assert.deepEqual([status.code, status.message], [10, TEXT]);
    assert.deepEqual(status.details.map((d) => [d.type_url, d.value]),
      [one, one].map((d) => [d.type_url, d.value]));
  },

  async deadline() {
    const key = newKey();
    const start = Date.now();
    await refused(Code.DEADLINE_EXCEEDED, unary({ hang: true, key }, { options: inTime(300) }));
    assert(Date.now() - start >= 290 && Date.now() - start < 5000);
    await awaitCancelled(key);
  },

  async timeout() {
    const left = (await unary({}, { options: inTime(20000) })).timeout_nanos;
    assert(left > 10e9 && left <= 20e9, `left: ${left}`);
  },

  async cancel() {
    const key = newKey();
    let under;
    const done = refused(Code.CANCELLED, unary({ hang: true, key }, { started: (c) => { under = c; } }));
    await awaitSeen(key, 'start', (seen) => seen.started === 1);
    under.cancel();
    await done;
    if (cancelReaches) await awaitCancelled(key);
    await unary();
  },

  async stream() {
    let expected = 0;
    for await (const response of count({ count: 1000, size: 10 })) {
      assert.equal(response.number, expected++);
      assert.equal(response.payload.length, 10);
    }
    assert.equal(expected, 1000);
  },

  // 64 MiB, through pauses, and other calls on the same connection meanwhile.
  async stream_slow() {
    let expected = 0;
    for await (const response of count({ count: 1024, size: 64 << 10 })) {
      if (expected % 128 === 0) {
        await sleep(50);
        await unary();
      }
      assert.equal(response.number, expected++);
      assert.equal(response.payload.length, 64 << 10);
    }
    assert.equal(expected, 1024);
  },

  async stream_error() {
    let expected = 0;
    await refused(Code.DATA_LOSS, (async () => {
      for await (const response of count({ count: 10, ending: { code: 15, message: TEXT } })) {
        assert.equal(response.number, expected++);
      }
    })(), TEXT);
    assert.equal(expected, 10);
  },

  async stream_cancel() {
    const key = newKey();
    const endless = count({ size: 1000, key });
    const answers = endless[Symbol.asyncIterator]();
    for (let i = 0; i < 10; i++) assert.equal((await answers.next()).value.number, i);
    endless.on('error', () => {}); // that it was cancelled
    endless.cancel();
    await awaitCancelled(key);
    await unary();
  },

  async sum() {
    const response = await sum(async (stream) => {
      for (let i = 0; i < 1000; i++) {
        await write(stream, { sandbox_id: sandbox, payload: Buffer.alloc(i) });
      }
      stream.end();
    });
    assert.deepEqual([response.messages, response.bytes], [1000, 999 * 500]);
  },

  async sum_none() {
    const response = await sum((stream) => stream.end());
    assert.deepEqual([response.messages, response.bytes], [0, 0]);
  },

  // 8 MiB to a handler that does not take them at first.
  async sum_slow() {
    const response = await sum(async (stream) => {
      await write(stream, { sandbox_id: sandbox, pause_millis: 500 });
      for (let i = 0; i < 128; i++) await write(stream, { payload: Buffer.alloc(64 << 10) });
      stream.end();
    });
    assert.deepEqual([response.messages, response.bytes], [129, 8 << 20]);
  },

  async chat() {
    const talk = new Chat();
    for (let i = 0; i < 1000; i++) {
      const response = await talk.exchange({ payload: Buffer.from(`${i}`) });
      assert.deepEqual([response.number, `${response.payload}`], [i, `${i}`]);
    }
    await talk.finish();
  },

  // The answers come although the client's side is closed.
  async chat_half_close() {
    const stream = echo.Chat(inTime());
    for (let i = 0; i < 10; i++) stream.write({ sandbox_id: sandbox });
    stream.end();
    let expected = 0;
    for await (const response of stream) assert.equal(response.number, expected++);
    assert.equal(expected, 10);
  },

  // The server ends the call while the client still sends.
  async chat_error() {
    const talk = new Chat();
    await talk.exchange();
    await refused(Code.OUT_OF_RANGE, talk.exchange({ ending: { code: 11, message: TEXT } }), TEXT);
    await unary();
  },

  // Not chat_cancel: before RST_STREAM the library half-closes, which ends the call.

  async largest() {
    await unary(sized(MESSAGE_MAX), { options: {} });
    assert.equal(await answerSize(await answered(MESSAGE_MAX)), MESSAGE_MAX);
  },

  async too_large() {
    await refused(Code.RESOURCE_EXHAUSTED, unary(sized(MESSAGE_MAX + 1)));
    await refused(Code.RESOURCE_EXHAUSTED, answerSize(await answered(MESSAGE_MAX + 1)));
    await unary();
  },

  // Inside, ttrpc's envelope needs some of the 4 MiB, and answers are smaller.
  async routed_limit() {
    await unary(sized(MESSAGE_MAX - 16384));
    await refused(Code.RESOURCE_EXHAUSTED, unary(sized(MESSAGE_MAX)));
    assert.equal(await answerSize(await answered(ROUTED_MAX - 16)), ROUTED_MAX - 16);
    await refused(Code.RESOURCE_EXHAUSTED, answerSize(await answered(ROUTED_MAX)));
    await unary();
  },

  // 1000 calls on one connection that end, then 1000 that are in flight together.
  async concurrent() {
    const all = await Promise.all(Array.from({ length: 1000 }, (_, i) =>
      unary({ payload: Buffer.from(`${i}`) })));
    all.forEach((response, i) => assert.equal(`${response.payload}`, `${i}`));
    const key = newKey();
    const under = [];
    const hanging = Array.from({ length: 1000 }, () => refused(Code.CANCELLED,
      unary({ hang: true, key }, { started: (c) => under.push(c) })));
    await awaitSeen(key, 'start 1000 times', (seen) => seen.started === 1000);
    for (const c of under) c.cancel();
    await Promise.all(hanging);
    if (cancelReaches) {
      await awaitSeen(key, 'cancelled 1000 times', (seen) => seen.cancelled === 1000);
    }
    await unary();
  },

  // 1000 at once, each with a call.
  async connections() {
    const clients = Array.from({ length: 1000 }, () => connect(socket));
    for (let round = 0; round < 2; round++) {
      await Promise.all(clients.map((client) => call(client, 'Unary', { sandbox_id: sandbox })));
    }
    for (const client of clients) client.close();
  },

  async unimplemented() {
    for (const path of ['/sandboxd.test.v1.EchoService/None', '/no.such.Service/Unary']) {
      await refused(Code.UNIMPLEMENTED, new Promise((resolve, reject) => {
        echo.makeUnaryRequest(path, (m) => m, (m) => m, Buffer.alloc(0), new grpc.Metadata(), inTime(),
          (error, response) => (error ? reject(error) : resolve(response)));
      }));
    }
    await unary();
  },

  async compressed() {
    const gzip = connect(socket, { 'grpc.default_compression_algorithm': 2 });
    const error = await refused(Code.UNIMPLEMENTED,
      call(gzip, 'Unary', { sandbox_id: sandbox, payload: Buffer.alloc(10000) }));
    assert.match(error.details, /identity/);
  },

  // Ten pings in two seconds while a call is in flight, and some without.
  async keepalive() {
    await refused(Code.DEADLINE_EXCEEDED, unary({ hang: true }, { options: inTime(2000) }));
    await sleep(500);
    await unary();
  },

  async health() {
    const client = new Health(`unix:${socket}`, grpc.credentials.createInsecure());
    const watched = async (service) => {
      const watch = client.Watch({ service }, inTime());
      const { value } = await watch[Symbol.asyncIterator]().next();
      watch.on('error', () => {}); // that it was cancelled
      watch.cancel();
      return value.status;
    };
    for (const service of ['', 'sandboxd.test.v1.EchoService']) {
      assert.equal((await call(client, 'Check', { service })).status, 1);
      assert.equal(await watched(service), 1);
    }
    await refused(Code.NOT_FOUND, call(client, 'Check', { service: 'no.such.Service' }));
    assert.equal(await watched('no.such.Service'), 3);
  },

  // A stream is under way when the server is told to stop.
  async shutdown() {
    const talk = new Chat();
    await talk.exchange();
    console.log('under way');
    await new Promise((resolve) => readline.createInterface(process.stdin).once('line', resolve));
    // For a moment the server may still take a call that crosses its GOAWAY.
    await refused(Code.UNAVAILABLE, (async () => {
      for (const end = Date.now() + 5000; Date.now() < end; await sleep(10)) await unary();
    })());
    await talk.exchange();
    await talk.finish();
  },
};

if (process.argv.length !== 6 || !scenarios[scenario]) {
  console.error(`usage: client.js SOCKET SCENARIO SANDBOX_ID SEEN_SOCKET
scenarios: ${Object.keys(scenarios).join(' ')}`);
  process.exit(2);
}
scenarios[scenario]().then(() => process.exit(0), (error) => {
  console.error('FAILED:', error);
  process.exit(1);
});
