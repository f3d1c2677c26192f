// A CSV file in pieces that end with a row, as the collector takes them: each is sent behind the file's first line. Pure.

const PIECE = 1 << 20;
const ROW_MAX = 256 << 10;
const [NEWLINE, QUOTE] = [10, 34];
/** A quote opens a cell behind one of these, and is a sign like others elsewhere. */
const BEFORE = new Set([undefined, ...[..."\n\r\t,;|"].map((sign) => sign.charCodeAt(0))]);
/** A cell of more lines has lost its closing quote: the collector says so. */
const LINES_MAX = 10;
const UTF16 = { "255 254": "utf-16le", "254 255": "utf-16be" };

/** Gives first the line that names the columns (with one like `sep=;` before it), then pieces: `{ bytes, read, more }`, with how much of the file was read, and whether more may follow. */
export async function* pieces(file, tooLong) {
  let read = 0;
  const counted = new TransformStream({ transform(chunk, to) { read += chunk.byteLength; to.enqueue(chunk); } });
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  let stream = file.stream().pipeThrough(counted);
  if (head[0] === 0x1f && head[1] === 0x8b) stream = stream.pipeThrough(new DecompressionStream("gzip"));
  const encoding = UTF16[head.join(" ")];
  if (encoding) stream = stream.pipeThrough(new TextDecoderStream(encoding)).pipeThrough(new TextEncoderStream());
  const reader = stream.getReader();
  let held = new Uint8Array(0), scanned = 0, ends = 0, quoted = false, closed = false, lines = 0, header = true;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (value) held = join(held, value);
      for (; scanned < held.length; scanned += 1) {
        const byte = held[scanned];
        const opens = byte === QUOTE && !quoted && (closed || BEFORE.has(held[scanned - 1]));
        closed = byte === QUOTE && quoted; // written twice it opens again
        quoted = opens || quoted && !closed;
        if (byte !== NEWLINE || quoted && (lines += 1) <= LINES_MAX) continue; // a line end within quotes ends no row
        [quoted, lines, ends] = [false, 0, scanned + 1];
        if (header && isPreface(held.subarray(0, ends))) continue;
        if (!header && ends < PIECE) continue;
        yield { bytes: held.slice(0, ends), read, more: true };
        held = held.slice(ends);
        [scanned, ends, header] = [-1, 0, false];
      }
      if (held.length - ends > ROW_MAX) throw new Error(tooLong);
      if (done) break;
    }
    if (held.length > 0) yield { bytes: held, read, more: false };
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Whether it is a single line that says what stands between columns. */
const isPreface = (bytes) => /^\ufeff?sep=.\r?\n$/i.test(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));

/** Both behind one another. */
export function join(one, other) {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
