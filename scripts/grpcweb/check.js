// Calls echo/echo on a node as a web page would: with the official gRPC-Web client, and with Connect's gRPC-Web
// transport. Ends with a status other than 0 when an answer is not what it should be.
//
// usage: node check.js http://HOST:PORT PROTO_DIR DESCRIPTOR_SET
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');

// The official client knows browsers only; this is the one thing of theirs that it needs.
global.XMLHttpRequest = require('xhr2').XMLHttpRequest;

const [url, protos, descriptors] = process.argv.slice(2);
const payload = Buffer.from('hello \0\xff grpc-web', 'latin1');

async function official() {
  const { GrpcWebClientBase, MethodDescriptor, MethodType, StatusCode } = require('grpc-web');
  const protobuf = require('protobufjs');
  const root = new protobuf.Root();
  root.resolvePath = (origin, target) => (target.startsWith('google/') ? target : path.join(protos, target));
  await root.load('wattle/v1/invoke.proto');
  const Request = root.lookupType('wattle.v1.InvokeRequest');
  const Response = root.lookupType('wattle.v1.InvokeResponse');
  const invoke = new MethodDescriptor(
    '/wattle.v1.InvokeService/Invoke', MethodType.UNARY, Request.ctor, Response.ctor,
    (m) => Request.encode(m).finish(), (b) => Response.decode(b));
  const client = new GrpcWebClientBase({ format: 'binary' });
  const call = (fields) => client.unaryCall(url + invoke.getName(), Request.create(fields), {}, invoke);

  const answer = await call({ service: 'echo', function: 'echo', payload });
  assert.deepEqual(Buffer.from(answer.payload), payload);
  assert.equal(Number(answer.version), 1);

  const error = await call({ service: 'nobody', function: 'echo' }).then(() => null, (e) => e);
  assert.equal(error?.code, StatusCode.NOT_FOUND, `unknown service: ${error}`);
  console.log(`grpc-web ${require('grpc-web/package.json').version}: ${JSON.stringify(Buffer.from(answer.payload).toString('latin1'))}; ${error.message}`);
}

async function connectWeb() {
  const { createClient, ConnectError, Code } = require('@connectrpc/connect');
  const { createGrpcWebTransport } = require('@connectrpc/connect-web');
  const { createFileRegistry, fromBinary } = require('@bufbuild/protobuf');
  const { FileDescriptorSetSchema } = require('@bufbuild/protobuf/wkt');
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, fs.readFileSync(descriptors)));
  const transport = createGrpcWebTransport({ baseUrl: url });
  const functions = createClient(registry.getService('wattle.v1.InvokeService'), transport);

  const answer = await functions.invoke({ service: 'echo', function: 'echo', payload });
  assert.deepEqual(Buffer.from(answer.payload), payload);
  assert.equal(answer.version, 1n);

  const error = await functions.invoke({ service: 'nobody', function: 'echo' }).then(() => null, (e) => ConnectError.from(e));
  assert.equal(error?.code, Code.NotFound, `unknown service: ${error}`);
  const [detail] = error.findDetails(registry.getMessage('wattle.v1.ErrorDetail'));
  assert.equal(detail?.reason, 'unknown_service');

  // A stream: every service, then the word that this was all.
  const services = createClient(registry.getService('wattle.v1.RegistryService'), transport);
  const seen = [];
  const stop = new AbortController(); // leaving the loop alone may leave the stream open, and Node.js running
  for await (const { change } of services.watchServices({}, { signal: stop.signal })) {
    if (change.case === 'synced') break;
    seen.push(change.value.name);
  }
  stop.abort();
  assert.deepEqual(seen, ['echo']);
  console.log(`@connectrpc/connect-web: ${JSON.stringify(Buffer.from(answer.payload).toString('latin1'))}; ${error.message}; services ${seen}`);
}

official().then(connectWeb).catch((e) => {
  console.error(e);
  process.exitCode = 1;
});
