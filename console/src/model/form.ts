/** From the message of a request to the controls of a form, and from what was typed to ProtoJSON. */

import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type FileRegistry,
  type JsonObject,
  type JsonValue,
  ScalarType,
} from "@bufbuild/protobuf";
import { fieldComment, rules } from "./contract";

export type Control = "text" | "number" | "whole" | "switch" | "choice" | "json" | "group";

export interface Field {
  /** Its key in ProtoJSON, and what the contract calls it. */
  key: string;
  label: string;
  control: Control;
  repeated: boolean;
  required: boolean;
  /** A UUID that makes the call safe to repeat: made anew for each form. */
  uuid: boolean;
  secret: boolean;
  comment: string;
  /** What may stand in it, in a line; empty where anything may. */
  hint: string;
  choices: string[];
  fields: Field[];
}

/** What stands in a form: text as typed, one entry for each of a repeated field, a record for each message. */
export type Draft = string | boolean | Draft[] | { [key: string]: Draft };
export type Drafts = { [key: string]: Draft };

/** Deeper messages are written as JSON: nobody fills in such a form, and a message may hold itself. */
const DEEPEST = 3;

/** Messages that ProtoJSON writes as one string. */
const AS_TEXT: Record<string, string> = {
  "google.protobuf.Timestamp": "RFC 3339, 2026-01-31T12:00:00Z",
  "google.protobuf.Duration": "seconds, 1.5s",
  "google.protobuf.FieldMask": "fields with commas, name,state",
};

export function fields(message: DescMessage, registry: FileRegistry, depth = 0): Field[] {
  return message.fields
    .filter((field) => !rules(field, registry).output)
    .map((field) => describe(field, registry, depth));
}

function describe(field: DescField, registry: FileRegistry, depth: number): Field {
  const said = rules(field, registry);
  const repeated = field.fieldKind === "list";
  const base = {
    key: field.jsonName,
    label: field.name,
    repeated,
    required: said.required,
    uuid: /"uuid":true/.test(JSON.stringify(said.rules)),
    secret: /password|token/.test(field.name) && !/page_token/.test(field.name),
    comment: fieldComment(field),
    hint: hint(said.rules),
    choices: field.enum ? names(field.enum) : [],
    fields: [] as Field[],
  };
  const one = { ...base, control: control(field, depth) };
  if (one.control === "group" && field.message) one.fields = fields(field.message, registry, depth + 1);
  if (one.control === "json") return { ...one, repeated: false, hint: one.hint || "JSON" };
  const text = field.message && AS_TEXT[field.message.typeName];
  return text ? { ...one, hint: one.hint || text } : one;
}

function control(field: DescField, depth: number): Control {
  if (field.fieldKind === "map") return "json";
  if (field.enum) return "choice";
  if (field.message) {
    if (field.message.typeName in AS_TEXT) return "text";
    return depth >= DEEPEST || field.message.typeName.startsWith("google.protobuf.") ? "json" : "group";
  }
  switch (field.scalar) {
    case ScalarType.BOOL:
      return "switch";
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return "number";
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return "text";
    default:
      return "whole";
  }
}

const names = (described: DescEnum) =>
  described.values.filter((value) => value.number !== 0).map((value) => value.name);

/** The rules of protovalidate in words. */
function hint(found: JsonObject): string {
  const said: string[] = [];
  const tell = (rule: JsonObject) => {
    for (const [name, value] of Object.entries(rule)) {
      const phrase = PHRASES[name];
      if (phrase && typeof value !== "object") said.push(phrase(String(value)));
      else if (value && typeof value === "object" && !Array.isArray(value)) tell(value);
      else if (name === "cel" && Array.isArray(value)) {
        for (const one of value)
          if (one && typeof one === "object" && !Array.isArray(one)) said.push(String(one.message ?? ""));
      }
    }
  };
  tell(found);
  return said.filter((phrase) => phrase !== "").join("; ");
}

const PHRASES: Record<string, (value: string) => string> = {
  pattern: (value) => `matches ${value}`,
  minLen: (value) => `at least ${value} characters`,
  maxLen: (value) => `at most ${value} characters`,
  minItems: (value) => `at least ${value}`,
  maxItems: (value) => `at most ${value} of them`,
  gte: (value) => `${value} or more`,
  gt: (value) => `more than ${value}`,
  lte: (value) => `${value} or less`,
  lt: (value) => `less than ${value}`,
  uuid: () => "a UUID",
  email: () => "an e-mail address",
  unique: () => "each once",
};

/** What a new form begins with: nothing, except one of what is required, and fresh UUIDs. */
export function blank(shape: readonly Field[], uuid: () => string): Drafts {
  return Object.fromEntries(
    shape.map((field) => [
      field.key,
      field.repeated ? (field.required ? [empty(field, uuid)] : []) : empty(field, uuid),
    ]),
  );
}

/** One entry of a field, ready to be filled in. */
export function empty(field: Field, uuid: () => string): Draft {
  if (field.control === "group") return blank(field.fields, uuid);
  if (field.control === "switch") return false;
  return field.uuid && field.required && !field.repeated ? uuid() : "";
}

/** What cannot be sent, by the label of its field. */
export class DraftError extends Error {}

/** ProtoJSON of what was typed: fields left empty are left out. Throws DraftError where a number or JSON is none. */
export function toRequest(shape: readonly Field[], draft: Drafts): JsonObject {
  const request: JsonObject = {};
  for (const field of shape) {
    const value = draft[field.key];
    if (value === undefined) continue;
    if (Array.isArray(value)) {
      const items = value.map((item) => single(field, item)).filter((item) => item !== undefined);
      if (items.length) request[field.key] = items;
    } else {
      const said = single(field, value);
      if (said !== undefined) request[field.key] = said;
    }
  }
  return request;
}

function single(field: Field, value: Draft): JsonValue | undefined {
  if (typeof value === "boolean") return value || undefined;
  if (typeof value !== "string") {
    const inner = toRequest(field.fields, Array.isArray(value) ? {} : value);
    return Object.keys(inner).length ? inner : undefined;
  }
  if (value === "") return undefined;
  switch (field.control) {
    case "number":
      if (!Number.isFinite(Number(value))) throw new DraftError(`${field.label}: ${value} is not a number`);
      return Number(value);
    case "whole":
      // As text: ProtoJSON takes it for every integer, and 64 bits do not fit a number of JavaScript.
      if (!/^-?\d+$/.test(value.trim())) throw new DraftError(`${field.label}: ${value} is not a whole number`);
      return value.trim();
    case "json":
      try {
        return JSON.parse(value) as JsonValue;
      } catch {
        throw new DraftError(`${field.label}: not JSON`);
      }
    default:
      return value;
  }
}
