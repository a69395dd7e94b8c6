// The calls themselves: a search, and one call with what was said. Rule: what was said is shown as text, whatever it says.

import { get } from "./api.js";
import { $, fill, h, table } from "./dom.js";
import * as format from "./format.js";
import { change } from "./view.js";

const PAGE = 25;
export const OUTCOMES = {
  completed: "Completed",
  client_closed: "Client left",
  upstream_error: "Upstream failed",
  rejected: "Refused",
  incomplete: "Incomplete",
  open: "Open",
};

let listed = [];
let last = "";

/** The calls that the view and the search form ask for; `after` goes on where the last page ended. */
export async function search(view, { start, end }, { more = false, signal } = {}) {
  const parameters = {
    start,
    end,
    client_id: view.client_id,
    model: view.model,
    deployment: view.deployment,
    end_user: $("end_user").value.trim(),
    caller_ip: $("caller_ip").value.trim(),
    outcome: $("outcome").value,
    limit: PAGE,
    after: more ? last : "",
  };
  const page = await get("calls", parameters, { signal });
  listed = more ? [...listed, ...page.data] : page.data;
  last = page.last_id ?? "";
  show(view.zone, page.has_more);
}

/** What is listed, for the CSV. */
export const current = () => listed;

function show(zone, hasMore) {
  const columns = [
    { title: "Opened", of: (call) => h("button", { type: "button", class: "link", click: () => change({ call: call.call_id }) }, format.instant(call.opened_at, zone)) },
    { title: "Client", of: (call) => call.client_id },
    { title: "Person", of: (call) => call.end_user },
    { title: "Model", of: (call) => call.model_served || call.model },
    { title: "Outcome", of: (call) => badge(call.outcome) },
    { title: "Status", number: true, of: (call) => call.status },
    { title: "In", number: true, of: (call) => format.count(call.input_tokens) },
    { title: "Out", number: true, of: (call) => format.count(call.output_tokens) },
    { title: "Took", number: true, of: (call) => format.duration(call.duration_ms) },
  ];
  fill($("calls"), listed.length ? table("Calls, the latest first", columns, listed) : h("p", { class: "note" }, "No calls match."));
  $("more").hidden = !hasMore;
}

const badge = (outcome) => h("span", { class: `badge ${outcome ?? "open"}` }, OUTCOMES[outcome ?? "open"] ?? outcome);

/** Opens one call. */
export async function open(id, zone) {
  const dialog = $("call");
  fill($("call-content"), h("p", { class: "note" }, "Loading …"));
  if (!dialog.open) dialog.showModal();
  try {
    const call = await get(`calls/${encodeURIComponent(id)}`);
    fill($("call-content"), facts(call.record, zone), attempts(call.record), ...conversation(call), ...raw(call));
  } catch (error) {
    fill($("call-content"), h("p", { class: "problem" }, error.message));
  }
}

function facts(record, zone) {
  const usage = record.usage ?? {};
  const entries = [
    ["Call", record.call_id],
    ["Opened", format.instant(record.opened_at, zone)],
    ["Client", record.client_id],
    ["Cost center", record.cost_center],
    ["Person", record.end_user],
    ["From", record.caller_ip],
    ["User agent", record.user_agent],
    ["Operation", record.operation],
    ["Model", record.model_served && record.model_served !== record.model ? `${record.model} → ${record.model_served}` : record.model],
    ["Deployment", record.deployment],
    ["Outcome", badge(record.outcome)],
    ["Status", record.status],
    ["First byte", record.first_byte_ms === undefined || record.first_byte_ms === null ? null : format.duration(record.first_byte_ms)],
    ["Took", record.duration_ms === undefined || record.duration_ms === null ? null : format.duration(record.duration_ms)],
    ["Tokens in", usage.input_tokens === undefined ? null : `${format.count(usage.input_tokens)}${usage.cached_input_tokens ? `, ${format.count(usage.cached_input_tokens)} of them cached` : ""}`],
    ["Tokens out", usage.output_tokens === undefined ? null : format.count(usage.output_tokens)],
    ["Told by", record.usage_source],
    ["Error", record.error],
  ];
  return h("dl", { class: "facts" }, entries.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function attempts(record) {
  if (!record.attempts?.length) return null;
  const columns = [
    { title: "Deployment", of: (each) => each.deployment || each.upstream },
    { title: "Status", number: true, of: (each) => each.status ?? each.error },
    { title: "Took", number: true, of: (each) => format.duration(each.duration_ms) },
  ];
  return h("section", {}, h("h3", {}, "Attempts"), h("div", { class: "scroll" }, table("Attempts at deployments", columns, record.attempts)));
}

function conversation({ prompt, completion, record }) {
  const said = [
    ...prompt.map(({ role, content }) => message(role, content)),
    ...completion.flatMap((choice) => [
      choice.reasoning && message("reasoning", choice.reasoning),
      choice.refusal && message("refusal", choice.refusal),
      choice.content && message("assistant", choice.content),
      ...(choice.tool_calls ?? []).map((tool) => message("tool call", `${tool.name ?? ""}(${tool.arguments})`)),
    ]),
  ].filter(Boolean);
  const none = record.content === "full" || !record.content ? "Nothing was said in words." : `What was said is not kept: this client's content policy is “${record.content}”.`;
  return [h("h3", {}, "Conversation"), said.length ? h("ol", { class: "conversation" }, said) : h("p", { class: "note" }, none)];
}

const message = (role, content) => h("li", { class: `message ${role.replace(/\W+/g, "-")}` }, h("p", { class: "role" }, role), h("p", { class: "text" }, content));

const SHOWN = 20_000;
function raw(call) {
  return ["request", "response"].map((side) => {
    const body = call[side]?.text ?? (call[side]?.base64 ? `(binary, in base64) ${call[side].base64}` : "");
    const text = body.length > SHOWN ? `${body.slice(0, SHOWN)} … (${format.count(body.length - SHOWN)} characters more)` : body;
    return h("details", {}, h("summary", {}, side === "request" ? "Request as sent" : "Response as sent"), h("pre", { tabindex: "0" }, text || "(empty)"));
  });
}
