/** Which rows of a long list have to stand in the document: those in sight, and a few around them. */

export interface Window {
  first: number;
  /** One past the last. */
  end: number;
}

const MARGIN = 8;

export function rowsInSight(total: number, rowHeight: number, scrolled: number, height: number): Window {
  const first = Math.max(0, Math.min(total, Math.floor(scrolled / rowHeight)) - MARGIN);
  const end = Math.min(total, Math.ceil((scrolled + height) / rowHeight) + MARGIN);
  return { first: Math.min(first, end), end };
}
