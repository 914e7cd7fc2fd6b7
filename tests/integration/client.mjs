// A client in Node, made from our .proto files alone: loads the digits network, reads digits, unloads it.
//
//     node client.mjs TARGET FILE.neff NODE_MODULES
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const [target, neff, modules] = process.argv.slice(2);
const require = createRequire(path.join(modules, 'here.js'));
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const source = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const digits = path.join(source, 'examples/digits');
const CHUNK = 64 * 1024;
const IMAGES = 100;
const PIXELS = 64;

// The data of a .npy file of version 1.
function npy(file) {
  const bytes = readFileSync(path.join(digits, file));
  return bytes.subarray(10 + bytes.readUInt16LE(8));
}

function call(runtime, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 30000);
    runtime[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

function load(runtime, name) {
  const data = readFileSync(neff);
  return new Promise((resolve, reject) => {
    const stream = runtime.Load((error, answer) => (error ? reject(error) : resolve(answer)));
    stream.write({ options: { name, size: data.length } });
    for (let at = 0; at < data.length; at += CHUNK) {
      stream.write({ chunk: data.subarray(at, at + CHUNK) });
    }
    stream.end();
  });
}

function question(image) {
  return { model: 'node', inputs: [{ name: 'image', dtype: 'FLOAT32', shape: [1, 1, 8, 8], data: image }] };
}

function digit(answer) {
  assert.equal(answer.outputs[0].name, 'probabilities');
  const data = answer.outputs[0].data;
  const probabilities = Array.from({ length: 10 }, (_, i) => data.readFloatLE(4 * i));
  return probabilities.indexOf(Math.max(...probabilities));
}

async function read(runtime, image) {
  return digit(await call(runtime, 'Infer', question(image)));
}

// All at once on one stream; answers come in any order.
function readStream(runtime, list) {
  return new Promise((resolve, reject) => {
    const stream = runtime.InferStream({ deadline: new Date(Date.now() + 60000) });
    const digits = [];
    stream.on('data', (answer) => {
      assert.equal(digits[answer.id - 1], undefined, 'answered twice');
      digits[answer.id - 1] = digit(answer.response);
    });
    stream.on('error', reject);
    stream.on('end', () => resolve(digits));
    list.forEach((image, i) => stream.write({ id: i + 1, request: question(image) }));
    stream.end();
  });
}

async function readPosted(runtime, list) {
  const posted = [];
  for (const image of list) {
    posted.push((await call(runtime, 'InferPost', question(image))).cookie);
  }
  const digits = [];
  for (const cookie of posted) {
    digits.push(digit(await call(runtime, 'InferWait', { cookie })));
  }
  await assert.rejects(call(runtime, 'InferWait', { cookie: posted[0] }), { code: grpc.status.NOT_FOUND });
  return digits;
}

const definition = loader.loadSync('kaena/v1/runtime.proto', {
  includeDirs: [path.join(source, 'proto')],
  keepCase: true,
  longs: String, // cookies have 64 bits
  enums: String,
});
const { Runtime } = grpc.loadPackageDefinition(definition).kaena.v1;
const runtime = new Runtime(target, grpc.credentials.createInsecure());
try {
  const { model } = await load(runtime, 'node');
  assert.equal(model.name, 'node');
  const images = npy('images.npy');
  const labels = npy('labels.npy');
  const list = Array.from({ length: IMAGES }, (_, i) => images.subarray(4 * PIXELS * i, 4 * PIXELS * (i + 1)));
  const once = [];
  for (const image of list) {
    once.push(await read(runtime, image));
  }
  assert.deepEqual(await readStream(runtime, list), once);
  assert.deepEqual(await readPosted(runtime, list), once);
  const right = once.filter((d, i) => d === labels[i]).length;
  assert.ok(right >= 0.97 * IMAGES, `${right} of ${IMAGES}`);
  await assert.rejects(read(runtime, images.subarray(0, 8)), { code: grpc.status.INVALID_ARGUMENT });
  await call(runtime, 'Unload', { name: 'node' });
  await assert.rejects(read(runtime, images.subarray(0, 256)), { code: grpc.status.NOT_FOUND });
  console.log(`${target}: ${right} of ${IMAGES} digits are right`);
} finally {
  runtime.close();
}
