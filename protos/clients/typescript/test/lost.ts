// A program whose connections are lost as a browser tells of it: fetch rejects with a TypeError and says no more. Argument:
// the address of a gRPC-web server. Standard input says who calls: {"email", "password", "product"}. On standard output,
// one JSON object: what came of each call, and how often it was sent.
import { readFileSync } from "node:fs";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { CatalogService } from "../src/gen/weft/catalog/v1/catalog_pb.js";
import { connectWeft, refusalOf } from "../src/weft.js";

const [baseUrl = ""] = process.argv.slice(2);
const given: { email: string; password: string; product: string } = JSON.parse(readFileSync(0, "utf8"));
const sent = { CreateSession: 0, GetProduct: 0, DeleteProduct: 0 };

/** Loses each call of the catalog that is sent the first time. */
const losing: typeof fetch = async (input, init) => {
  const method = String(input).split("/").at(-1) as keyof typeof sent;
  sent[method] += 1;
  if (method !== "CreateSession" && sent[method] === 1) throw new TypeError("Failed to fetch");
  return fetch(input, init);
};

const weft = connectWeft(createGrpcWebTransport({ baseUrl, fetch: losing }), { client: "shop-web/1.4", login: given });
const catalog = createClient(CatalogService, weft);
const name = `products/${given.product}`;

async function code(call: Promise<unknown>) {
  const refusal = await call.then(
    () => undefined,
    (error: unknown) => refusalOf(error),
  );
  return refusal && Code[refusal.code];
}

const product = (await catalog.getProduct({ name })).displayName;
console.log(JSON.stringify({ product, deleted: await code(catalog.deleteProduct({ name })), sent }));
