// What the collector says of a tier that is away, for whoever looks at the page: which one, and what that comes to. Why is for
// whoever mends it, and stands once, under Operations.

import { texts } from "./texts.js";

const AWAY = /^(hot|warm|cold) tier \([^)]*\) is not available: /;

/** Which tier an answer lacks: `hot`, `warm`, `cold`, or `null` when that isn't why. */
export const away = (text) => AWAY.exec(text)?.[1] ?? null;

/** What may be missing in an answer, in plain words, each once. Of a tier that is away only the effect is said, and not that the
 *  value before a chart may be another one. */
export const lacks = (degraded) => [...new Set(degraded.map((what) => (away(what) ? what.split(": ").at(-1) : what)))]
  .filter((what) => !/^the value before .* may be missing$/.test(what)).map(texts.notice.degraded);
