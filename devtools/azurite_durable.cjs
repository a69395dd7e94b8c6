// Loaded into Azurite by `node --require`. The rule: a write is answered once it is on disk.
//
// Azurite keeps its metadata in LokiJS, in memory, and writes it to a file every 5 seconds: a kill -9 loses what it has
// acknowledged since. Here a response to a write waits until every changed database has been saved; one save serves all
// that wait for it. A save writes a whole database, so when it gets slow (many thousand entries) responses wait no
// longer, and saving takes a fifth of the time: the loss is then bounded by a few times the duration of a save.
// AZURITE_ALWAYS_DURABLE=1 lets them wait all the same, for tests that kill it and count what is there afterwards.
"use strict";

const http = require("http");
const Loki = require("lokijs");

const SLOW_MS = 50;
const REST_RATIO = 4; // rest this many times as long as a slow save took
const REGULAR_MS = 1000;
const ALWAYS = process.env.AZURITE_ALWAYS_DURABLE === "1";
const READS = new Set(["GET", "HEAD", "OPTIONS"]);

const savers = [];

// Instead of Loki's own timer, which it starts for every database that it keeps in a file.
Loki.prototype.autosaveEnable = function () {
  this.autosave = true; // its close() then saves
  savers.push(new Saver(this));
};

class Saver {
  constructor(db) {
    this.db = db;
    this.running = null; // the save under way
    this.next = null; // the save that will hold what has changed since the running one began
    this.lastMs = 0;
    this.timer = setInterval(() => this.saved().catch(cannotSave), REGULAR_MS);
    this.timer.unref();
  }

  slow() {
    return this.lastMs > SLOW_MS && !ALWAYS;
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
http.ServerResponse.prototype.end = function (...rest) {
  if (READS.has(this.req.method)) return end.apply(this, rest);
  Promise.all(savers.map((saver) => saver.slow() || saver.saved())).then(() => end.apply(this, rest), cannotSave);
  return this;
};
