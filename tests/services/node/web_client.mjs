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

console.log(JSON.stringify({ connect: await withConnect(true), binary: await withGrpcWeb("binary"), text: await withGrpcWeb("text") }));
