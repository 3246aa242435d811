import { expect, test } from "vitest";
import { ofError, ofMethod, read } from "../src/model/guide";

const GUIDE = read({
  errors: {
    UNAVAILABLE: "troubleshooting.html#unavailable",
    UNAUTHENTICATED: "troubleshooting.html#unauthenticated",
    "UNAUTHENTICATED/USER_SUSPENDED": "troubleshooting.html#user_suspended-1",
    "FAILED_PRECONDITION/USER_SUSPENDED": "troubleshooting.html#user_suspended",
  },
  methods: { "a.v1.S/Get": "contracts/a.v1.S.html#Get" },
});

test("a reason leads to what is written of it under its code", () => {
  expect(ofError(GUIDE, "UNAUTHENTICATED", "USER_SUSPENDED")).toBe("/docs/troubleshooting.html#user_suspended-1");
  expect(ofError(GUIDE, "FAILED_PRECONDITION", "USER_SUSPENDED")).toBe("/docs/troubleshooting.html#user_suspended");
});

test("a reason of which nothing is written leads to its code, and where there is none nowhere", () => {
  expect(ofError(GUIDE, "UNAUTHENTICATED", "NEW")).toBe("/docs/troubleshooting.html#unauthenticated");
  expect(ofError(GUIDE, "UNAUTHENTICATED", "")).toBe("/docs/troubleshooting.html#unauthenticated");
  expect(ofError(GUIDE, "DATA_LOSS", "NEW")).toBe("");
  expect(ofError(GUIDE, "constructor", "")).toBe("");
});

test("where nobody answers nothing leads to who would not answer either", () => {
  expect(ofError(GUIDE, "UNAVAILABLE", "")).toBe("");
  expect(ofError(GUIDE, "UNAVAILABLE", "DRAINING")).toBe("/docs/troubleshooting.html#unavailable");
});

test("a method leads to its place in the reference, where it has one", () => {
  expect(ofMethod(GUIDE, "a.v1.S/Get")).toBe("/docs/contracts/a.v1.S.html#Get");
  expect(ofMethod(GUIDE, "a.v1.S/List")).toBe("");
});

test("without documents nothing leads to them", () => {
  expect([ofError(undefined, "NOT_FOUND", ""), ofMethod(undefined, "a.v1.S/Get")]).toEqual(["", ""]);
});

test("what is no list of places is none, and no place leads out of the documents", () => {
  for (const said of [null, "", [], 3, {}, { errors: {} }]) expect(read(said)).toBeUndefined();
  const evil = read({ errors: { A: "javascript:alert(1)", B: "//elsewhere", C: 7, D: "/x" }, methods: null });
  for (const code of ["A", "B", "C", "D"]) expect(ofError(evil, code, "")).toBe("");
  expect(ofMethod(evil, "A")).toBe("");
});
