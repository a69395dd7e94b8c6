// The panels: each shows one part of an overview (GET dashboard/overview). Rule: sums come from the API; nothing is added
// up here but what a chart stacks.

import * as charts from "./charts.js";
import { $, fill, h, table } from "./dom.js";
import * as format from "./format.js";
import { change, GROUPS } from "./view.js";

export const MEASURES = { cost: "Spend", tokens: "Tokens", calls: "Calls" };
export const LATENCIES = { first_byte_ms: "To first byte", duration_ms: "To the end" };

const tokens = (line) => line.input_tokens + line.output_tokens;
const failed = (line) => line.upstream_error + line.incomplete;
const NAMELESS = { client_id: "Nobody: idle capacity", deployment: "None asked" };
const named = (name, by) => name || (NAMELESS[by] ?? "None");

/** Money of a line. What has no price is not free. */
function spend({ cost, unpriced_calls }, currency) {
  return Number(cost) === 0 && unpriced_calls ? "no price" : format.money(cost, currency);
}

const MEASURED = {
  cost: { of: (line) => line.cost, text: spend, axis: (value, currency) => format.money(value, currency, "axis") },
  tokens: { of: tokens, text: (line) => format.compact(tokens(line)), axis: format.compact },
  calls: { of: (line) => line.calls, text: (line) => format.compact(line.calls), axis: format.compact },
};

/** The figures at the top, each with how it differs from the time before, once that is known. */
export function figures(overview, previous) {
  const { total, currency } = overview;
  const was = previous?.total;
  const entries = [
    ["Spend", spend(total, currency), changeOf(total.cost, was?.cost), total.unpriced_calls ? `${format.things(total.unpriced_calls, "call")} without a price` : null],
    ["Tokens", format.compact(tokens(total)), changeOf(tokens(total), was && tokens(was)), `${format.compact(total.input_tokens)} in, ${format.compact(total.output_tokens)} out`],
    ["Calls", format.count(total.calls), changeOf(total.calls, was?.calls), total.open ? `${format.count(total.open)} still open` : null],
    ["Errors", format.percent(failed(total), total.calls), null, format.things(failed(total), "call")],
    ["First byte, p95", format.duration(total.first_byte_ms.p95), null, `half within ${format.duration(total.first_byte_ms.p50)}`],
    ["Failovers", format.percent(total.failovers, total.calls), null, format.things(total.failovers, "further attempt")],
  ];
  fill(
    $("figures"),
    entries.map(([name, value, difference, note]) =>
      h("div", { class: "card figure-card" }, h("dt", {}, name), difference && h("dd", { class: "difference", title: "Against as much time before" }, difference), h("dd", { class: "value" }, value), h("dd", { class: "note" }, note ?? "")),
    ),
  );
}

function changeOf(now, was) {
  if (was === undefined || Number(was) === 0) return null;
  const difference = (Number(now) - Number(was)) / Number(was);
  if (difference > MOST_DIFFERENCE) return null; // the time before hardly saw any
  const arrow = difference > 0 ? "▲" : difference < 0 ? "▼" : "=";
  const words = difference > 0 ? "up" : difference < 0 ? "down" : "unchanged";
  return [
    h("span", { "aria-hidden": "true" }, `${arrow} `),
    h("span", { class: "visually-hidden" }, `${words} `),
    format.percent(Math.abs(difference), 1),
    h("span", { class: "visually-hidden" }, " against as much time before"),
  ];
}

const MOST_DIFFERENCE = 10;
/** Usage over time, stacked by group. */
export function time(overview, view, labels) {
  const { of, text, axis } = MEASURED[view.measure];
  const { currency } = overview;
  const groups = overview.groups
    .map((line) => ({ line, name: named(line.name, view.by), values: line.points.map((point) => Number(of(point))) }))
    .sort((one, other) => Number(of(other.line)) - Number(of(one.line)));
  const series = charts.withRest(groups);
  const label = GROUPS[view.by].toLowerCase();
  charts.stacked($("time-chart"), {
    labels,
    series,
    format: (value) => (view.measure === "cost" ? format.money(value, currency) : format.compact(value)),
    axis: (value) => axis(value, currency),
    description: `${MEASURES[view.measure]} by ${label}: ${text(overview.total, currency)} in all. The numbers are in the table below.`,
  });
  charts.legend(
    $("time-legend"),
    series.map(({ name, line, values }, index) => ({
      name,
      tone: name === charts.REST ? 7 : index,
      figure: line ? text(line, currency) : axis(values.reduce((sum, each) => sum + each, 0), currency),
    })),
  );
  const columns = [
    { title: "Period", of: ({ label }) => label },
    ...groups.map(({ name, line }) => ({ title: name, number: true, of: ({ index }) => text(line.points[index], currency) })),
    { title: "All", number: true, of: ({ line }) => text(line, currency) },
  ];
  fill($("time-table"), table(`${MEASURES[view.measure]} by ${label}`, columns, rowsOf(overview, labels)));
}

const rowsOf = (overview, labels) => overview.periods.map((line, index) => ({ label: labels[index], line, index }));

/** A ranking: of clients for administrators, else of what is broken down by. */
export function top(overview, view, isAdmin) {
  const by = isAdmin ? "client_id" : view.by;
  const groups = isAdmin ? overview.clients : overview.groups;
  $("top-title").textContent = isAdmin ? "Top clients" : `By ${GROUPS[by].toLowerCase()}`;
  const most = Number(groups[0]?.cost) || 0;
  const all = Number(overview.total.cost);
  const columns = [
    { title: GROUPS[by], of: ({ name }) => link(name, by) },
    { title: "Spend", number: true, of: (line) => spend(line, overview.currency) },
    { title: "Share", of: (line) => share(Number(line.cost), most, all) },
    { title: "Tokens", number: true, of: (line) => format.compact(tokens(line)) },
    { title: "Calls", number: true, of: (line) => format.compact(line.calls) },
    { title: "Errors", number: true, of: (line) => format.percent(failed(line), line.calls) },
    { title: "First byte, p95", number: true, of: (line) => format.duration(line.first_byte_ms.p95) },
  ];
  fill($("top-table"), table($("top-title").textContent, columns, groups));
}

function link(name, by) {
  if (!name || !(by in { client_id: 1, model: 1, deployment: 1 })) return named(name, by);
  return h("button", { type: "button", class: "link", click: () => change({ [by]: name }) }, name);
}

function share(value, most, all) {
  const width = most ? value / most : 0;
  return h("span", { class: "share" }, h("meter", { min: 0, max: 1, value: width.toFixed(4), "aria-hidden": "true" }), h("span", {}, format.percent(value, all)));
}

/** Percentiles of the time that calls took. */
export function latency(overview, view, labels) {
  const of = (line) => line[view.latency];
  const kinds = [
    ["p50", "Half of calls (p50)", 0, []],
    ["p95", "19 of 20 (p95)", 1, []],
    ["p99", "99 of 100 (p99)", 3, [5, 4]],
  ];
  charts.lines($("latency-chart"), {
    labels,
    series: kinds.map(([kind, name, tone, dash]) => ({ name, tone, dash, values: overview.periods.map((line) => of(line)[kind]) })),
    format: (value) => format.duration(value),
    description: `Latency ${LATENCIES[view.latency].toLowerCase()}: half within ${format.duration(of(overview.total).p50)}, 95 % within ${format.duration(of(overview.total).p95)}.`,
  });
  charts.legend(
    $("latency-legend"),
    kinds.map(([kind, name, tone, dash]) => ({ name, tone, dash: dash.length, figure: format.duration(of(overview.total)[kind]) })),
  );
  const columns = [
    { title: "Period", of: ({ label }) => label },
    ...kinds.map(([kind]) => ({ title: kind, number: true, of: ({ line }) => format.duration(of(line)[kind]) })),
  ];
  fill($("latency-table"), table("Latency", columns, rowsOf(overview, labels)));
}

/** How much went wrong, and how much of that clients did not notice. */
export function failing(overview, labels) {
  const kinds = [
    ["Errors", failed, 5, []],
    ["Failovers", (line) => line.failovers, 0, []],
    ["Refused by a limit or right", (line) => line.rejected, 1, [5, 4]],
  ];
  const asked = (line) => line.calls + line.rejected;
  charts.lines($("failing-chart"), {
    labels,
    series: kinds.map(([name, of, tone, dash]) => ({ name, tone, dash, values: overview.periods.map((line) => (asked(line) ? of(line) / asked(line) : null)) })),
    format: (value) => format.percent(value, 1),
    description: `Errors ${format.percent(failed(overview.total), asked(overview.total))}, failovers ${format.percent(overview.total.failovers, asked(overview.total))} of calls.`,
  });
  charts.legend(
    $("failing-legend"),
    kinds.map(([name, of, tone, dash]) => ({ name, tone, dash: dash.length, figure: format.percent(of(overview.total), asked(overview.total)) })),
  );
  const columns = [
    { title: "Period", of: ({ label }) => label },
    { title: "Calls", number: true, of: ({ line }) => format.count(line.calls) },
    ...kinds.map(([name, of]) => ({ title: name, number: true, of: ({ line }) => format.count(of(line)) })),
  ];
  fill($("failing-table"), table("Errors and failovers", columns, rowsOf(overview, labels)));
}

/** Whether each call that was opened has ended, is metered and is priced. */
export function complete({ total }) {
  const entries = [
    ["Opened", total.calls, "calls that were forwarded", false],
    ["Closed", total.closed, "their end was told", false],
    ["Open", total.open, "under way, or not told yet", false],
    ["Incomplete", total.incomplete, "never heard of again: a crash, say", total.incomplete > 0],
    ["Usage unknown", total.usage_unknown, "ended, and nobody told their tokens", total.usage_unknown > 0],
    ["Unpriced", total.unpriced_calls, "tokens known, but their model has no price: not in the spend", total.unpriced_calls > 0],
  ];
  const metered = total.provider + total.drained + total.estimated + total.counted;
  const isWhole = total.incomplete + total.usage_unknown + total.unpriced_calls === 0;
  fill(
    $("complete"),
    h("p", { class: `verdict ${isWhole ? "good" : "fair"}` }, isWhole ? "Every call that has ended is metered and priced." : `${format.percent(metered - total.unpriced_calls, total.calls)} of calls are metered and priced. The rest is named here.`),
    h("dl", { class: "ledger" }, entries.map(([name, value, note, marked]) => h("div", { class: marked && "marked" }, h("dt", {}, name, h("span", { class: "note" }, note)), h("dd", {}, format.count(value))))),
  );
}

/** Who told the token counts. */
export function source({ total }) {
  const entries = [
    ["provider", "Provider", "as the model's answer says", 1],
    ["drained", "Drained", "the provider's, read on after the client had gone", 2],
    ["estimated", "Estimated", "counted by the gateway: the stream was stopped", 3],
    ["counted", "Counted", "in the request, where that is what is billed", 4],
    ["usage_unknown", "Unknown", "nobody said; not counted as zero", 8],
  ];
  const all = entries.reduce((sum, [name]) => sum + total[name], 0);
  fill(
    $("source"),
    h("div", { class: "split", "aria-hidden": "true" }, entries.filter(([name]) => total[name]).map(([name, , , tone]) => bar(total[name] / all, tone))),
    h("dl", { class: "ledger" }, entries.map(([name, title, note, tone]) => h("div", {}, h("dt", {}, h("span", { class: `swatch tone-${tone}`, "aria-hidden": "true" }), title, h("span", { class: "note" }, note)), h("dd", {}, format.count(total[name]), h("span", { class: "note" }, format.percent(total[name], all)))))),
  );
}

/** A piece of a bar. Its width is set as a property, for the policy allows no style attributes. */
function bar(part, tone) {
  const element = h("span", { class: `tone-${tone}` });
  element.style.flexGrow = String(part);
  return element;
}
