// A program that calls a mesh and says what came of it, one JSON object on standard output. Arguments: `node` with the
// address of a gRPC server, or `web` with that of a gRPC-web server. Standard input says who calls and what there is:
// {"email", "password", "user", "product", "changes"}.
import { readFileSync } from "node:fs";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { CatalogService } from "../src/gen/weft/catalog/v1/catalog_pb.js";
import { IdentityService } from "../src/gen/weft/identity/v1/identity_pb.js";
import { OrderService } from "../src/gen/weft/orders/v1/orders_pb.js";
import { connectWeft, refusalOf } from "../src/weft.js";

const [kind, baseUrl = ""] = process.argv.slice(2);
const given: { email: string; password: string; user: string; product: string; changes: number } = JSON.parse(
  readFileSync(0, "utf8"),
);
const inner = kind === "web" ? createGrpcWebTransport({ baseUrl }) : createGrpcTransport({ baseUrl });
const weft = connectWeft(inner, {
  client: "shop-web/1.4",
  login: given,
});
const catalog = createClient(CatalogService, weft);
const orders = createClient(OrderService, weft);
const identity = createClient(IdentityService, weft);

async function refused(call: Promise<unknown>) {
  const refusal = await call.then(
    () => undefined,
    (error: unknown) => refusalOf(error),
  );
  return refusal && { code: Code[refusal.code], reason: refusal.reason, fields: refusal.violations.map((one) => one.field) };
}

const order = await orders.placeOrder({ items: [{ productId: given.product, quantity: 2n }] });
const revisions: number[] = [];
// Leaving the loop does not end the call: Connect keeps it open until its signal says so.
const watching = new AbortController();
for await (const change of orders.watchOrder({ name: order.name }, { signal: watching.signal })) {
  revisions.push(Number(change.order?.revision));
  if (revisions.length === given.changes) break;
}
watching.abort();
const said = {
  order: order.name,
  revisions,
  product: (await catalog.getProduct({ name: `products/${given.product}` })).displayName,
  none: await refused(catalog.getProduct({ name: "products/none" })),
  empty: await refused(orders.placeOrder({ items: [] })),
  hangs: await refused(catalog.getProduct({ name: "products/slow" })),
  once: await refused(catalog.deleteProduct({ name: `products/${given.product}` })),
  users: (await Promise.all([given.user, given.user].map((name) => identity.getUser({ name })))).map((user) => user.name),
};
console.log(JSON.stringify(said));
