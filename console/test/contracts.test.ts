import { readFileSync } from "node:fs";
import { fromJson } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { catalogue, type Method } from "../src/model/contract";
import { blank, DraftError, type Field, fields, toRequest } from "../src/model/form";
import { bufCurl, curl, httpCall, PathError } from "../src/model/request";

// The project's own contracts, as a mesh tells them.
const { registry, services } = catalogue(new Uint8Array(readFileSync("../protos/gen/contracts.binpb")));
const ORIGIN = new URL("http://127.0.0.1:8080");
const UUID = "2f1b3c5e-0000-4000-8000-000000000000";

function method(id: string): Method {
  const found = services.flatMap((service) => service.methods).find((one) => one.id === id);
  if (!found) throw new Error(`no method ${id}`);
  return found;
}

const place = method("weft.orders.v1.OrderService/PlaceOrder");
const shape = fields(place.desc.input, registry);
const field = (name: string, among: readonly Field[] = shape) => {
  const found = among.find((one) => one.label === name);
  if (!found) throw new Error(`no field ${name}`);
  return found;
};

test("a method says its policy, with what its service says for it", () => {
  const timeout = place.terms.find((term) => term.name === "timeout");
  const retry = place.terms.find((term) => term.name === "retry");

  expect(place.scopes).toEqual(["orders.write"]);
  expect(timeout).toEqual({ name: "timeout", value: "5s", own: false });
  expect(retry).toEqual({ name: "retry", value: "max attempts 3", own: true });
  expect([place.verb, place.path, place.body]).toEqual(["POST", "/v1/orders", "*"]);
  expect(place.errors.map((error) => error.reason)).toContain("OUT_OF_STOCK");
  expect(place.comment).toMatch(/^Places an order/);
  expect(method("weft.identity.v1.IdentityService/CreateSession").open).toBe(true);
});

test("every method of every contract has a form, and an empty one makes a request that parses", () => {
  for (const one of services.flatMap((service) => service.methods)) {
    const inner = fields(one.desc.input, registry);
    const request = toRequest(
      inner,
      blank(inner, () => UUID),
    );

    expect(() => fromJson(one.desc.input, request, { registry }), one.id).not.toThrow();
  }
});

test("controls follow the contract: lists, messages, rules in words, a fresh id for a call that may be repeated", () => {
  const items = field("items");
  const drafts = blank(shape, () => UUID);

  expect([items.control, items.repeated, items.required]).toEqual(["group", true, true]);
  expect(field("quantity", items.fields).control).toBe("whole");
  expect(field("product_id", items.fields).hint).toMatch(/^matches /);
  expect(field("region_code").comment).toMatch(/CLDR/);
  expect(drafts.requestId).toBe(UUID);
  expect(drafts.items).toEqual([{ productId: "", quantity: "" }]);
});

test("what only the mesh may say is not asked for", () => {
  const update = fields(method("weft.identity.v1.IdentityService/UpdateUser").desc.input, registry);
  const names = field("user", update).fields.map((one) => one.label);

  expect(names).toContain("display_name");
  expect(names).not.toContain("create_time");
});

test("passwords are typed unseen, page tokens are not secrets", () => {
  const session = fields(method("weft.identity.v1.IdentityService/CreateSession").desc.input, registry);
  const list = fields(method("weft.orders.v1.OrderService/ListOrders").desc.input, registry);

  expect([field("password", session).secret, field("page_token", list).secret]).toEqual([true, false]);
});

test("what was typed becomes a request that the contract takes, and 64 bits stay whole", () => {
  const request = toRequest(shape, {
    items: [{ productId: "mug", quantity: "9007199254740993" }],
    requestId: UUID,
    regionCode: "",
  });

  expect(request).toEqual({ items: [{ productId: "mug", quantity: "9007199254740993" }], requestId: UUID });
  expect(() => fromJson(place.desc.input, request, { registry })).not.toThrow();
});

test("what is no number is refused with the name of its field", () => {
  expect(() => toRequest(shape, { items: [{ productId: "mug", quantity: "2.5" }] })).toThrow(
    new DraftError("quantity: 2.5 is not a whole number"),
  );
});

test("a message that holds itself ends in a field for JSON", () => {
  const deep = (among: readonly Field[], depth: number): number =>
    Math.max(depth, ...among.map((one) => deep(one.fields, depth + 1)));
  const list = registry.getMessage("google.protobuf.ListValue");
  const described = registry.getMessage("google.protobuf.DescriptorProto");
  const found = list ?? described;
  if (!found) throw new Error("the contracts import no message that holds itself");

  expect(deep(fields(found, registry), 0)).toBeLessThan(6);
});

test("JSON puts each part of a request where the contract says: path, body, query", () => {
  const cancel = method("weft.orders.v1.OrderService/CancelOrder");
  const list = method("weft.orders.v1.OrderService/ListOrders");
  const update = method("weft.identity.v1.IdentityService/UpdateUser");

  expect(httpCall(cancel, { name: "orders/1 2", requestId: "r" })).toEqual({
    verb: "POST",
    target: "/v1/orders/1%202:cancel",
    body: '{"requestId":"r"}',
  });
  expect(httpCall(list, { pageSize: "5", readMask: "name,state" })).toEqual({
    verb: "GET",
    target: "/v1/orders?pageSize=5&readMask=name%2Cstate",
    body: undefined,
  });
  expect(httpCall(update, { user: { name: "users/ada", displayName: "Ada" }, updateMask: "displayName" })).toEqual({
    verb: "PATCH",
    target: "/v1/users/ada?updateMask=displayName",
    body: '{"displayName":"Ada"}',
  });
  expect(() => httpCall(cancel, {})).toThrow(PathError);
});

test("lines for a shell hold no token, and quotes in a request do not end theirs", () => {
  const said = bufCurl(place, { regionCode: "it's" }, ORIGIN);
  const open = bufCurl(method("weft.identity.v1.IdentityService/CreateSession"), {}, new URL("https://weft.example"));

  expect(said).toBe(
    `.venv/bin/buf curl --protocol grpc -H "authorization: Bearer $(.venv/bin/weft token)" -d '{"regionCode":"it'\\''s"}' 'http://127.0.0.1:8080/weft.orders.v1.OrderService/PlaceOrder'`,
  );
  expect(open).toBe(
    ".venv/bin/buf curl --protocol grpc -d '{}' 'https://weft.example/weft.identity.v1.IdentityService/CreateSession'",
  );
  expect(curl(place, httpCall(place, {}), ORIGIN)).toMatch(
    /^curl -s -H .* 'http:\/\/127\.0\.0\.1:8080\/v1\/orders' -H 'content-type: application\/json' -d '\{\}'$/,
  );
});
