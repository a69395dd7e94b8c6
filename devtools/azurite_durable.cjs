// Loaded into Azurite by `node --require`. The rule: a write is answered once it is on disk.
//
// Azurite keeps its metadata in LokiJS, in memory, and writes it to a file every 5 seconds: a kill -9 loses what it has
// acknowledged since. Here a response to a write waits until every changed database has been saved; one save serves all
// that wait for it. A save writes a whole database, so when it gets slow (many thousand entries) responses wait no
// longer, and saving takes a fifth of the time: the loss is then bounded by a few times the duration of a save.
//
// AZURITE_SAVES_AT_CRASH=1 is for tests that crash it under load and count what is there afterwards. It saves nothing
// until it is told to crash, by SIGUSR2. Then nobody is answered any more, what has begun comes to its end, all is saved,
// and it is gone: whatever was acknowledged is there after a new start, and of the rest anything may be.
"use strict";

const fs = require("fs");
const http = require("http");
const Loki = require("lokijs");

const SLOW_MS = 50;
const REST_RATIO = 4; // rest this many times as long as a slow save took
const REGULAR_MS = 1000;
const CRASH_PATIENCE_MS = 2000; // for requests that have begun, whose clients may never send the rest
const SAVES_AT_CRASH = process.env.AZURITE_SAVES_AT_CRASH === "1";
const READS = new Set(["GET", "HEAD", "OPTIONS"]);

const savers = new Map(); // by database

// Instead of Loki's own timer, which it starts for every database that it keeps in a file.
Loki.prototype.autosaveEnable = function () {
  this.autosave = true; // its close() then saves
  if (!savers.has(this)) savers.set(this, new Saver(this));
};

class Saver {
  constructor(db) {
    this.db = db;
    this.running = null; // the save under way
    this.next = null; // the save that will hold what has changed since the running one began
    this.lastMs = 0;
    if (SAVES_AT_CRASH) return;
    this.timer = setInterval(() => this.saved().catch(cannotSave), REGULAR_MS);
    this.timer.unref();
  }

  slow() {
    return this.lastMs > SLOW_MS;
  }

  // A promise for the moment when all changes so far are on disk.
  saved() {
    if (!this.db.autosaveDirty()) return this.next || this.running || Promise.resolve();
    if (!this.next) {
      this.next = Promise.resolve(this.running).then(() => {
        this.next = null;
        return (this.running = this.save());
      });
    }
    return this.next;
  }

  async save() {
    const began = performance.now();
    await new Promise((resolve, reject) => this.db.saveDatabase((error) => (error ? reject(error) : resolve())));
    this.lastMs = performance.now() - began;
    if (this.slow()) await new Promise((resolve) => setTimeout(resolve, REST_RATIO * this.lastMs));
  }
}

function cannotSave(error) {
  console.error("Azurite's data cannot be saved:", error);
  process.exit(1);
}

const end = http.ServerResponse.prototype.end;
if (SAVES_AT_CRASH) {
  const begun = new Set();
  let crashing = false;

  const emit = http.Server.prototype.emit;
  http.Server.prototype.emit = function (event, request, response) {
    if (event !== "request") return emit.apply(this, arguments);
    if (crashing) return request.socket.destroy();
    begun.add(response);
    return emit.apply(this, arguments);
  };
  http.ServerResponse.prototype.end = function (...rest) {
    begun.delete(this);
    if (!crashing) return end.apply(this, rest);
    this.req.socket.destroy();
    return this;
  };
  process.on("SIGUSR2", () => {
    crashing = true;
    const deadline = performance.now() + CRASH_PATIENCE_MS;
    (function crash() {
      if (begun.size && performance.now() < deadline) return setTimeout(crash, 2);
      for (const db of savers.keys()) fs.writeFileSync(db.filename, db.serialize());
      process.kill(process.pid, "SIGKILL");
    })();
  });
} else {
  http.ServerResponse.prototype.end = function (...rest) {
    if (READS.has(this.req.method)) return end.apply(this, rest);
    const all = [...savers.values()].map((saver) => saver.slow() || saver.saved());
    Promise.all(all).then(() => end.apply(this, rest), cannotSave);
    return this;
  };
}

// Of several conditions Loki looks the first one up in its index, and that is the account, which has everything: each
// request would look through all there is. Here the condition with the fewest rows comes first.
const Resultset = Loki.Resultset.prototype;
const findAnd = Resultset.findAnd;
Resultset.$and = Resultset.findAnd = function (conditions) {
  if (this.filterInitialized) return findAnd.call(this, conditions);
  const ranked = conditions.map((condition) => [rows(this.collection, condition), condition]);
  return findAnd.call(this, ranked.sort((one, other) => one[0] - other[0]).map((each) => each[1]));
};

function rows(collection, condition) {
  const [property, value] = Object.entries(condition)[0];
  if (!collection.binaryIndices[property] || value === null || typeof value === "object") return Infinity;
  const [first, last] = collection.calculateRange("$eq", property, value);
  return last - first + 1;
}
