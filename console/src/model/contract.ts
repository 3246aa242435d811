/** The contracts as the page shows them, read from the descriptors that the mesh runs: what it says of itself, not of the page. */

import {
  createFileRegistry,
  type DescField,
  type DescFile,
  type DescMethod,
  type DescService,
  type FileRegistry,
  fromBinary,
  getExtension,
  hasExtension,
  type JsonObject,
  type JsonValue,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { bytes } from "./format";

/** An error that the contract of a method names. */
export interface Declared {
  code: string;
  reason: string;
  comment: string;
}

/** One line of a policy: `timeout`, `5s`. */
export interface Term {
  name: string;
  value: string;
  /** The method says it itself; else its service does, for all of its methods. */
  own: boolean;
}

export interface Method {
  /** `weft.orders.v1.OrderService/PlaceOrder`. */
  id: string;
  desc: DescMethod;
  comment: string;
  verb: string;
  path: string;
  /** What of the request the body of JSON is: `*`, a field, or nothing. */
  body: string;
  open: boolean;
  scopes: string[];
  terms: Term[];
  errors: Declared[];
  effects: "none" | "repeatable" | "once";
}

export interface Service {
  id: string;
  comment: string;
  methods: Method[];
}

export interface Catalogue {
  registry: FileRegistry;
  services: Service[];
}

/** What is not shown among the terms, because it stands elsewhere on the page. */
const ELSEWHERE = new Set(["scopes", "public", "errors"]);

/** From a serialised `google.protobuf.FileDescriptorSet`, with comments where it has its source info. */
export function catalogue(descriptors: Uint8Array): Catalogue {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
  const services = [...registry.files]
    .flatMap((file) => file.services)
    .filter((service) => service.methods.length > 0)
    .map((service) => read(service, registry))
    .sort((one, other) => one.id.localeCompare(other.id));
  return { registry, services };
}

function read(service: DescService, registry: FileRegistry): Service {
  const at = service.file.services.indexOf(service);
  const defaults = option(registry, "weft.options.v1.defaults", service.proto.options);
  return {
    id: service.typeName,
    comment: comment(service.file, [6, at]),
    methods: service.methods.map((method, index) =>
      describe(method, comment(service.file, [6, at, 2, index]), defaults, registry),
    ),
  };
}

function describe(desc: DescMethod, text: string, defaults: JsonObject, registry: FileRegistry): Method {
  const own = option(registry, "weft.options.v1.policy", desc.proto.options);
  const http = option(registry, "google.api.http", desc.proto.options);
  const verb = ["get", "put", "post", "delete", "patch"].find((name) => typeof http[name] === "string");
  const merged: JsonObject = { ...defaults, ...own };
  return {
    id: `${desc.parent.typeName}/${desc.name}`,
    desc,
    comment: text,
    verb: verb?.toUpperCase() ?? "",
    path: verb ? String(http[verb]) : "",
    body: typeof http.body === "string" ? http.body : "",
    open: merged.public === true,
    scopes: list(merged.scopes).map(String),
    terms: Object.keys(merged)
      .filter((name) => !ELSEWHERE.has(name))
      .map((name) => ({
        name: PLAIN[name] ?? words(name),
        value: name === "maxRequestBytes" ? bytes(Number(merged[name])) : spoken(merged[name] ?? null),
        own: name in own,
      })),
    errors: [...list(own.errors), ...list(defaults.errors)].map((error) => {
      const said = error as JsonObject;
      return { code: String(said.code ?? ""), reason: String(said.reason ?? ""), comment: String(said.comment ?? "") };
    }),
    effects: desc.idempotency === 1 ? "none" : desc.idempotency === 2 ? "repeatable" : "once",
  };
}

const list = (value: JsonValue | undefined): JsonValue[] => (Array.isArray(value) ? value : []);

/** An option in ProtoJSON; an empty object where it is not set, or where the contracts do not know it. */
function option(registry: FileRegistry, name: string, options: Message | undefined): JsonObject {
  const extension = registry.getExtension(name);
  if (!extension || !options || !hasExtension(options as never, extension)) return {};
  const value = getExtension(options as never, extension) as Message;
  const json = extension.message ? toJson(extension.message, value, { registry }) : null;
  return json !== null && typeof json === "object" && !Array.isArray(json) ? json : {};
}

/** The rules of a field (protovalidate) in ProtoJSON, and whether a caller has to say it (AIP-203). */
export function rules(
  field: DescField,
  registry: FileRegistry,
): { rules: JsonObject; required: boolean; output: boolean } {
  const behaviour = registry.getExtension("google.api.field_behavior");
  const options = field.proto.options;
  const said =
    behaviour && options && hasExtension(options as never, behaviour)
      ? (getExtension(options as never, behaviour) as number[])
      : [];
  const found = option(registry, "buf.validate.field", options);
  return { rules: found, required: said.includes(2) || found.required === true, output: said.includes(3) };
}

/** The comment before an element of a file, by its path in `SourceCodeInfo`. */
export function comment(file: DescFile, path: readonly number[]): string {
  const key = path.join();
  const location = file.proto.sourceCodeInfo?.location.find((one) => one.path.join() === key);
  return (location?.leadingComments ?? "")
    .replace(/^ /gm, "")
    .replace(/\n(?!\n)/g, " ")
    .trim();
}

/** The comment on a field. Only those of messages that no other message holds are looked up by it. */
export function fieldComment(field: DescField): string {
  const path: number[] = [];
  let message = field.parent;
  path.unshift(2, message.proto.field.indexOf(field.proto));
  for (let outer = message.parent; outer; outer = message.parent) {
    path.unshift(3, outer.nestedMessages.indexOf(message));
    message = outer;
  }
  path.unshift(4, message.file.messages.indexOf(message));
  return comment(message.file, path);
}

/** `maxRequestBytes` -> `max request bytes`. */
export function words(name: string): string {
  return name
    .replace(/_/g, " ")
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .toLowerCase();
}

/** What reads better in another word than the contract's. */
const PLAIN: Record<string, string> = {
  slo: "objective",
  maxRequestBytes: "largest request",
  per: "in",
  requests: "calls",
};

/** A value of a policy in one line. */
export function spoken(value: JsonValue): string {
  if (value === null) return "–";
  if (Array.isArray(value)) return value.map(spoken).join("; ");
  if (typeof value === "object") {
    return Object.entries(value)
      .map(([name, inner]) => `${PLAIN[name] ?? words(name)} ${spoken(inner ?? null)}`)
      .join(", ");
  }
  // Enumerations read without their prefix.
  return String(value)
    .replace(/^(CRITICALITY|LEVEL|KEY)_/, "")
    .replace(/^[A-Z_]+$/, (name) => name.toLowerCase().replace(/_/g, " "));
}
