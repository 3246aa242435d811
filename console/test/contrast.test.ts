import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

// WCAG 2.2, 1.4.3: text 4.5 to 1; 1.4.11: borders of controls and signs 3 to 1. Computed from the page's own tokens.
const TOKENS = [
  ...readFileSync("src/design/tokens.css", "utf8").matchAll(
    /--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)/g,
  ),
];
const SCHEMES = {
  light: new Map(TOKENS.map((token) => [token[1] ?? "", token[2] ?? ""])),
  dark: new Map(TOKENS.map((token) => [token[1] ?? "", token[3] ?? ""])),
};

function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const value = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [dark = 0, bright = 0] = [luminance(one), luminance(other)].sort((left, right) => left - right);
  return (bright + 0.05) / (dark + 0.05);
}

const GROUNDS = ["ground", "surface", "raised", "hover", "accent-soft", "sunken"];
const TEXT: [string, string[]][] = [
  ["text", [...GROUNDS, "good-soft", "warn-soft", "bad-soft"]],
  ["quiet", GROUNDS],
  ["accent", ["ground", "surface", "raised", "hover", "accent-soft"]],
  ["good", ["surface", "hover", "good-soft", "accent-soft"]],
  ["warn", ["surface", "hover", "warn-soft", "accent-soft"]],
  ["bad", ["surface", "hover", "bad-soft", "accent-soft"]],
  ["idle", ["surface", "hover"]],
  ["on-accent", ["accent"]],
  ["on-bad", ["bad"]],
];

for (const [scheme, tokens] of Object.entries(SCHEMES)) {
  const colour = (name: string) => {
    const found = tokens.get(name);
    if (!found) throw new Error(`no token is called ${name}`);
    return found;
  };
  for (const [text, grounds] of TEXT) {
    for (const ground of grounds) {
      test(`${text} can be read on ${ground}, ${scheme}`, () => {
        expect(contrast(colour(text), colour(ground))).toBeGreaterThanOrEqual(4.5);
      });
    }
  }
  for (const ground of ["surface", "raised", "ground"]) {
    test(`the border of a control can be seen on ${ground}, ${scheme}`, () => {
      expect(contrast(colour("edge"), colour(ground))).toBeGreaterThanOrEqual(3);
    });
  }
}

test("contrast is what the standard says of black and white", () => {
  expect(contrast("#000000", "#ffffff")).toBeCloseTo(21);
  expect(contrast("#777777", "#ffffff")).toBeCloseTo(4.48, 2);
});
