// A CSV file in pieces that end with a row, as the collector takes them: each is sent behind the file's first line. Pure.

const PIECE = 1 << 20;
const ROW_MAX = 256 << 10;
const [NEWLINE, QUOTE] = [10, 34];

/** Gives first the line that names the columns, then pieces: `{ bytes, read }`, with how much of the file was read. */
export async function* pieces(file, tooLong) {
  let read = 0;
  const counted = new TransformStream({ transform(chunk, to) { read += chunk.byteLength; to.enqueue(chunk); } });
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  let stream = file.stream().pipeThrough(counted);
  if (head[0] === 0x1f && head[1] === 0x8b) stream = stream.pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.getReader();
  let held = new Uint8Array(0), scanned = 0, ends = 0, quoted = false, header = true;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (value) held = join(held, value);
      for (; scanned < held.length; scanned += 1) {
        if (held[scanned] === QUOTE) quoted = !quoted; // a line end within quotes ends no row
        if (held[scanned] !== NEWLINE || quoted) continue;
        ends = scanned + 1;
        if (!header && ends < PIECE) continue;
        yield { bytes: held.slice(0, ends), read };
        held = held.slice(ends);
        [scanned, ends, header] = [-1, 0, false];
      }
      if (held.length - ends > ROW_MAX) throw new Error(tooLong);
      if (done) break;
    }
    if (held.length > 0) yield { bytes: held, read };
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Both behind one another. */
export function join(one, other) {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
