// Asks a running server through grpc-web and through connect-web, and prints what each got as one JSON object.
// node web_client.mjs URL DESCRIPTORS
import { readFileSync } from "node:fs";
import { createFileRegistry, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient, ConnectError, Code } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import grpcWeb from "grpc-web";
import xhr2 from "xhr2";

globalThis.XMLHttpRequest = xhr2;
const [url, descriptors] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const inference = registry.getService("inference.GRPCInferenceService");
const health = registry.getService("grpc.health.v1.Health");
const request = (model, rows) => ({
  modelName: model,
  id: "from-a-page",
  inputs: [{ name: "x", datatype: "FP32", shape: [BigInt(rows.length), 2n], contents: { fp32Contents: rows.flat() } }],
});
const values = (answer) => ({ id: answer.id, y: answer.outputs[0].contents.fp32Contents });

async function withConnect(useBinaryFormat) {
  const client = createClient(inference, createGrpcWebTransport({ baseUrl: url, useBinaryFormat }));
  const answer = values(await client.modelInfer(request("m", [[1, 2], [3, 4]])));
  const refused = await client.modelInfer(request("nope", [[1, 2]])).catch((error) => ConnectError.from(error));
  const late = await client.modelInfer(request("m", [[1, 2]]), { timeoutMs: 0.001 }).catch((error) => ConnectError.from(error));
  return { ...answer, refused: Code[refused.code], words: refused.rawMessage, late: Code[late.code], live: (await client.serverLive({})).live };
}

async function withGrpcWeb(format) {
  const client = new grpcWeb.GrpcWebClientBase({ format });
  const call = (name, message) => {
    const method = inference.method[name[0].toLowerCase() + name.slice(1)];
    const path = `/${inference.typeName}/${name}`;
    const descriptor = new grpcWeb.MethodDescriptor(
      path, grpcWeb.MethodType.UNARY, Object, Object,
      (one) => toBinary(method.input, create(method.input, one)),
      (bytes) => fromBinary(method.output, bytes),
    );
    return new Promise((resolve) => client.rpcCall(url + path, message, {}, descriptor, (error, answer) => resolve(error ?? answer)));
  };
  const answer = values(await call("ModelInfer", request("m", [[1, 2], [3, 4]])));
  const refused = await call("ModelInfer", request("nope", [[1, 2]]));
  return { ...answer, refused: refused.code, words: refused.message, live: (await call("ServerLive", {})).live };
}

// A watch that its client leaves after the first message, one whose deadline ends it, one of a stream of messages, which no page can send.
async function streamsWithConnect(useBinaryFormat) {
  const client = createClient(health, createGrpcWebTransport({ baseUrl: url, useBinaryFormat }));
  const leaving = new AbortController();
  const told = [];
  const left = await (async () => {
    for await (const answer of client.watch({ service: "m" }, { signal: leaving.signal })) {
      told.push(answer.status);
      leaving.abort();
    }
  })().catch((error) => Code[ConnectError.from(error).code]);
  const late = await (async () => {
    for await (const answer of client.watch({ service: "nobody" }, { timeoutMs: 300 })) told.push(answer.status);
  })().catch((error) => Code[ConnectError.from(error).code]);
  return { told, left, late };
}

function streamsWithGrpcWeb(format) {
  const client = new grpcWeb.GrpcWebClientBase({ format });
  const open = (service, method, message) => {
    const { input, output } = service.method[method[0].toLowerCase() + method.slice(1)];
    const path = `/${service.typeName}/${method}`;
    const descriptor = new grpcWeb.MethodDescriptor(
      path, grpcWeb.MethodType.SERVER_STREAMING, Object, Object,
      (one) => toBinary(input, create(input, one)),
      (bytes) => fromBinary(output, bytes),
    );
    return new Promise((resolve) => {
      const told = [];
      const deadline = { deadline: String(Date.now() + 300) };
      const stream = client.serverStreaming(url + path, message, deadline, descriptor);
      stream.on("data", (answer) => told.push(answer.status));
      stream.on("error", (error) => resolve({ told, code: error.code, words: error.message }));
      stream.on("end", () => resolve({ told }));
    });
  };
  return Promise.all([open(health, "Watch", { service: "m" }), open(inference, "ModelStreamInfer", request("m", [[1, 2]]))]);
}

console.log(
  JSON.stringify({
    connect: await withConnect(true),
    binary: await withGrpcWeb("binary"),
    text: await withGrpcWeb("text"),
    connectStreams: await streamsWithConnect(true),
    binaryStreams: await streamsWithGrpcWeb("binary"),
    textStreams: await streamsWithGrpcWeb("text"),
  }),
);
