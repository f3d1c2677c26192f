// The stretch of time that all charts of a page show. Times are milliseconds.

const SHORTEST = 10_000;
const LONGEST = 12 * 366 * 86_400_000;

export class Span {
  /** `now` gives the collector's time; `ahead(length)`, set later, how far it may reach beyond it. */
  constructor(now, length = 3_600_000) {
    this.now = now;
    this.ahead = () => 0;
    this.listeners = new Set();
    this.follow(length, false);
  }

  get length() { return this.to - this.from; }

  /** Tells of every change; gives back how to end it. */
  listen(tell) {
    this.listeners.add(tell);
    return () => this.listeners.delete(tell);
  }

  /** The last `length` up to now, or as far beyond it as is wanted, and on with it. */
  follow(length = this.length, tell = true) {
    this.following = true;
    length = Math.min(LONGEST, Math.max(SHORTEST, length));
    this.to = this.now() + this.ahead(length);
    this.from = this.to - length;
    if (tell) this.tell("set");
  }

  /** From here to there; what reaches now follows it. */
  set(from, to) {
    const length = Math.min(LONGEST, Math.max(SHORTEST, to - from));
    const middle = (from + to) / 2;
    [from, to] = length === to - from ? [from, to] : [middle - length / 2, middle + length / 2];
    if (to >= this.now() + this.ahead(length) - length * 0.002) return this.follow(length);
    this.following = false;
    this.from = Math.round(from);
    this.to = Math.round(to);
    this.tell("set");
  }

  /** Shifts by a part of its length. */
  pan(part) { this.set(this.from + part * this.length, this.to + part * this.length); }

  /** Makes it `factor` times as long, around `at`. */
  zoom(factor, at = this.following ? this.to : (this.from + this.to) / 2) {
    const length = Math.min(LONGEST, Math.max(SHORTEST, this.length * factor));
    const part = (at - this.from) / this.length;
    this.set(at - part * length, at + (1 - part) * length);
  }

  /** Time goes on. */
  tick() {
    if (!this.following) return;
    const shift = this.now() + this.ahead(this.length) - this.to;
    this.from += shift;
    this.to += shift;
    this.tell("tick");
  }

  tell(why) { this.listeners.forEach((tell) => tell(why)); }

  /** As it stands in an address. */
  write() {
    const iso = (ms) => new Date(ms).toISOString();
    return this.following ? `span=${Math.round(this.length / 1000)}` : `from=${iso(this.from)}&to=${iso(this.to)}`;
  }

  /** From an address; what can't be read changes nothing. */
  read(query) {
    const [from, to, length] = [Date.parse(query.get("from")), Date.parse(query.get("to")), Number(query.get("span"))];
    if (from < to) this.set(from, to);
    else if (length > 0) this.follow(length * 1000);
  }
}
