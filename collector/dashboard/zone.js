// The collector's time zone, whose days and hours its jobs and detectors go by: a week before is the same hour there, also when
// clocks were changed in between.

import { get } from "./api.js";

const DAY_MS = 86_400_000;
const QUARTER_MS = 900_000; // clocks change at quarters of an hour
const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
const offsets = new Map(); // zone and quarter → ms
const clocks = new Map(); // zone → its clock
let asked = null;

/** Its name, as schedules of jobs end with it; this browser's while nobody says. */
export function zone() {
  asked ??= get("jobs").then(({ items }) => known(items.find((job) => job.schedule)?.schedule.split(" ").at(-1)), () => { asked = null; return here; });
  return asked;
}

function known(name) {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone;
  } catch {
    return here;
  }
}

/** How far clocks in a zone are ahead of UTC at a moment, ms. */
function offset(at, zone) {
  const quarter = Math.floor(at / QUARTER_MS), key = `${zone} ${quarter}`;
  if (!offsets.has(key)) {
    if (!clocks.has(zone)) clocks.set(zone, new Intl.DateTimeFormat("en", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric" }));
    const part = Object.fromEntries(clocks.get(zone).formatToParts(quarter * QUARTER_MS).map(({ type, value }) => [type, Number(value)]));
    offsets.set(key, Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute) - quarter * QUARTER_MS);
  }
  return offsets.get(key);
}

/** When clocks in that zone showed the same so many days later, or with less than none earlier; ms. An hour that is left out
 *  counts as the one after it, of one that is twice the first is meant. */
export function shifted(at, days, zone) {
  const clock = at + offset(at, zone) + days * DAY_MS;
  const [before, after] = [offset(clock - DAY_MS, zone), offset(clock + DAY_MS, zone)];
  const first = clock - Math.max(before, after);
  return offset(first, zone) === Math.max(before, after) ? first : clock - before;
}

/** The same, but nothing where clocks show no such hour or show it for the second time: otherwise two moments would become one. */
export function paired(at, days, zone) {
  const other = shifted(at, days, zone);
  return shifted(other, -days, zone) === at ? other : null;
}
