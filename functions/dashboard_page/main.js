// The page: signs in, asks for what the address says, and shows it. Rule: an answer that a newer question has overtaken is
// dropped, so that what stands on the page is always what the controls say.

import { get, key, Refused } from "./api.js";
import { budgets } from "./budgets.js";
import * as calls from "./calls.js";
import { csv, save } from "./csv.js";
import { deployments } from "./deployments.js";
import { $, fill, h, options, segments } from "./dom.js";
import * as format from "./format.js";
import * as panels from "./panels.js";
import { before, change, dateIn, FILTERS, GROUPS, later, own, periods, RANGES, read, span, zones } from "./view.js";

const WATCH_MS = 15_000;
const page = { session: null, overview: null, asked: null, shown: "" };

async function start() {
  decorate();
  addEventListener("hashchange", () => page.session && refresh());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  setInterval(watch, WATCH_MS);
  const isSignedIn = key.get() || document.documentElement.dataset.easyAuth === "on";
  if (isSignedIn) await enter();
  else askForKey();
}

// ---- signing in -----------------------------------------------------------------------------------------------------

async function enter() {
  try {
    page.session = await get("dashboard/session");
  } catch (error) {
    const wasSaid = key.get() || error.status !== 401;
    key.forget();
    askForKey(wasSaid ? error.message : "");
    return;
  }
  $("sign-in").hidden = true;
  $("board").hidden = false;
  $("sign-out").hidden = false;
  fill($("who"), page.session.client_id ?? "Administrator");
  $("who").hidden = false;
  document.documentElement.classList.toggle("client", page.session.client_id !== null);
  await refresh();
}

function askForKey(problem = "") {
  $("board").hidden = true;
  $("who").hidden = true;
  $("sign-out").hidden = true;
  $("sign-in").hidden = false;
  $("entra").hidden = document.documentElement.dataset.easyAuth !== "on";
  $("sign-in-error").textContent = problem;
  $("key").value = "";
  $("key").focus();
}

async function signIn(event) {
  event.preventDefault();
  key.set($("key").value.trim());
  await enter();
}

/** Leaves, so that nothing of what was shown stays in memory: App Service's own session too, where there is no key. */
function signOut() {
  page.asked?.abort();
  const wasByKey = key.get();
  key.forget();
  location.replace(wasByKey ? location.pathname : "/.auth/logout?post_logout_redirect_uri=/dashboard");
}

// ---- showing --------------------------------------------------------------------------------------------------------

/** Asks for what the address says, and shows it. */
async function refresh() {
  const view = read();
  showControls(view);
  if (view.call) calls.open(view.call, view.zone);
  else $("call").close();
  const { call: _, measure, latency, ...wanted } = view;
  if (page.shown === JSON.stringify(wanted)) return redraw();
  page.asked?.abort();
  page.asked = new AbortController();
  await load(view, JSON.stringify(wanted), page.asked.signal);
}

/** Asks anew for what is shown. */
async function again() {
  page.shown = "";
  await refresh();
}

/** Keeps what is live so, while somebody may be looking. */
async function watch() {
  if (document.hidden || !page.overview || page.session.client_id !== null) return;
  await get("manage/deployments").then(deployments).catch(() => {}); // the next time will tell
}

async function load(view, wanted, signal) {
  const asked = span(view);
  $("panels").setAttribute("aria-busy", "true");
  $("trouble").hidden = true;
  try {
    const overview = whole(await get("dashboard/overview", question(view, asked), { signal }), asked.granularity);
    Object.assign(page, { overview, previous: null, shown: wanted });
    $("panels").setAttribute("aria-busy", "false");
    redraw();
    $("status").textContent = `Shown: ${RANGES[view.range]}, ${format.count(overview.total.calls)} calls.`;
    await Promise.all([compare(view, signal), besides(view, signal)]);
  } catch (error) {
    if (error.name === "AbortError") return;
    page.shown = "";
    if (error.status === 401) return key.forget(), askForKey(error.message);
    report(error);
  }
}

/** The answer with a line for each period, also for those in which nothing happened, and each group's points in their order. */
function whole(overview, granularity) {
  const names = periods(overview, granularity);
  const places = new Map(names.map((name, index) => [name, index]));
  const nothing = Object.fromEntries(Object.entries(overview.total).map(([name, value]) => [name, typeof value === "object" ? { p50: null, p95: null, p99: null } : 0]));
  const lines = names.map((period) => ({ ...nothing, period }));
  for (const line of overview.periods) lines[places.get(line.period)] = line;
  const points = new Map(overview.groups.map(({ name }) => [name, names.map(() => nothing)]));
  for (const point of overview.points) points.get(point.name)[places.get(point.period)] = point;
  return { ...overview, granularity, periods: lines, groups: overview.groups.map((line) => ({ ...line, points: points.get(line.name) })) };
}

/** The figures of the time before. */
async function compare(view, signal) {
  const overview = page.overview;
  page.previous = await get("dashboard/overview", question(view, before(overview)), { signal });
  panels.figures(overview, page.previous);
}

/** What has addresses of its own. One that fails says so in its place and keeps no other from showing. */
async function besides(view, signal) {
  const isAdmin = page.session.client_id === null;
  const parts = [
    ["calls", () => calls.search(view, page.overview, { signal })],
    ["budgets", async () => budgets(await get("usage/budgets", { client_id: view.client_id }, { signal }))],
    ...(isAdmin ? [["health", async () => deployments(await get("manage/deployments", {}, { signal }))]] : []),
  ];
  await Promise.all(
    parts.map(async ([id, show]) => {
      try {
        await show();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        fill($(id), h("p", { class: "problem" }, error.message));
      }
    }),
  );
}

const question = (view, asked) => ({ ...asked, group_by: view.by, ...Object.fromEntries(FILTERS.map((name) => [name, view[name]])) });

function report(error) {
  $("panels").setAttribute("aria-busy", "false");
  $("trouble").hidden = false;
  $("trouble").querySelector("p").textContent = error instanceof Refused ? error.message : `This page has a defect: ${error.message}`;
  if (!(error instanceof Refused)) console.error(error);
}

/** Shows what was answered, again. */
function redraw() {
  const { overview, previous, session } = page;
  if (!overview) return;
  const view = read();
  const labels = overview.periods.map(({ period }) => format.period(period, view.zone));
  const isEmpty = overview.total.calls + overview.total.rejected === 0;
  $("nothing").hidden = !isEmpty;
  $("panels").hidden = isEmpty;
  $("fresh").textContent = fresh(overview, view);
  fillFilters(view, overview.names);
  if (isEmpty) return;
  panels.figures(overview, previous);
  panels.time(overview, view, labels);
  panels.top(overview, view, session.client_id === null);
  panels.latency(overview, view, labels);
  panels.failing(overview, labels);
  panels.complete(overview);
  panels.source(overview);
}

function fresh({ start, end, granularity, watermark }, { zone }) {
  const moments = granularity === "hour" ? [start, end].map((each) => format.minute(each, zone)) : [start, Date.parse(end) - 1].map((each) => format.date(dateIn(each, zone)));
  const counted = watermark ? `, counted ${format.instant(watermark, zone)}` : "";
  return `${moments.join(" – ")}${counted} (${zone})`;
}

// ---- controls -------------------------------------------------------------------------------------------------------

function showControls(view) {
  segments($("ranges"), "range", RANGES, view.range, chooseRange);
  segments($("measures"), "measure", panels.MEASURES, view.measure, (measure) => change({ measure }));
  segments($("latencies"), "latency", panels.LATENCIES, view.latency, (latency) => change({ latency }));
  const groups = page.session.client_id === null ? GROUPS : { model: GROUPS.model, deployment: GROUPS.deployment, operation: GROUPS.operation };
  options($("by"), Object.entries(groups), view.by);
  options($("zone"), zones().map((zone) => [zone, zone === own() && zone !== "UTC" ? `${zone} (here)` : zone]), view.zone);
  const isCustom = view.range === "custom";
  $("from-field").hidden = $("to-field").hidden = !isCustom;
  if (isCustom) [$("from").value, $("to").value] = [view.from, view.to];
}

function chooseRange(range) {
  const view = read();
  const today = dateIn(Date.now(), view.zone);
  const dates = range === "custom" ? { from: later(today, -29), to: today } : { from: "", to: "" };
  change({ range, ...dates });
}

function fillFilters(view, names) {
  $("clear").hidden = FILTERS.every((name) => !view[name]);
  for (const name of FILTERS) options($(name), [["", "All"], ...names[name].map((each) => [each, each])], view[name]);
}

function decorate() {
  options($("outcome"), [["", "All"], ...Object.entries(calls.OUTCOMES)], "");
  for (const name of [...FILTERS, "by", "zone", "from", "to"]) $(name).addEventListener("change", ({ target }) => change({ [name]: target.value }));
  for (const form of ["controls", "search"]) $(form).addEventListener("submit", (event) => event.preventDefault());
  $("sign-in-form").addEventListener("submit", signIn);
  $("sign-out").addEventListener("click", signOut);
  $("search").addEventListener("submit", () => searchCalls());
  $("more").addEventListener("click", () => searchCalls({ more: true }));
  $("trouble").querySelector("button").addEventListener("click", again);
  $("call-close").addEventListener("click", () => $("call").close());
  $("call").addEventListener("close", () => read().call && change({ call: "" }));
  $("theme").addEventListener("click", nextTheme);
  $("refresh").addEventListener("click", again);
  $("clear").addEventListener("click", () => change(Object.fromEntries(FILTERS.map((name) => [name, ""]))));
  for (const button of document.querySelectorAll("[data-csv]")) button.addEventListener("click", () => saveCsv(button.dataset.csv));
  showTheme();
}

async function searchCalls(options = {}) {
  try {
    await calls.search(read(), page.overview, options);
  } catch (error) {
    fill($("calls"), h("p", { class: "problem" }, error.message));
  }
}

const THEMES = { "": "Auto", light: "Light", dark: "Dark" };

function nextTheme() {
  const names = Object.keys(THEMES);
  const theme = names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length];
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  try {
    localStorage.setItem("tollgate.theme", theme);
  } catch {
    // storage is closed to this page: it holds until the page is left
  }
  showTheme();
  redraw();
}

function showTheme() {
  const name = THEMES[document.documentElement.dataset.theme ?? ""];
  $("theme").setAttribute("aria-label", `Colours: ${name}`);
  $("theme").textContent = name;
}

// ---- CSV ------------------------------------------------------------------------------------------------------------

/** Saves what is shown: from the API, which has all figures of each line, or what is listed. */
async function saveCsv(which) {
  const view = read();
  const { start, end } = page.overview;
  const name = `${which}-${dateIn(Date.parse(start), view.zone)}-${dateIn(Date.parse(end) - 1, view.zone)}.csv`;
  if (which === "calls") return save(name, csv(calls.current()));
  const { granularity, ...asked } = question(view, span(view));
  const by = page.session.client_id === null ? "client_id" : view.by;
  const grouped = which === "usage" ? { granularity } : { group_by: by };
  try {
    save(name, await get("usage", { ...asked, ...grouped }, { accept: "text/csv" }));
  } catch (error) {
    report(error);
  }
}

start();
