// Budgets of this month: what is used, and what the month will come to.

import { $, fill, h } from "./dom.js";
import * as format from "./format.js";

export function budgets({ data, currency }) {
  const none = h("p", { class: "note" }, "No monthly budget is set. A client's limits take tokens_per_month and money_per_month.");
  fill($("budgets"), data.length ? h("ul", { class: "budgets" }, data.map((budget) => line(budget, currency))) : none);
}

function line(budget, currency) {
  const isMoney = budget.measure === "money_per_month";
  const shown = (amount) => (isMoney ? format.money(amount, currency) : `${format.compact(amount)} tokens`);
  const { used_share: used, forecast_share: forecast } = budget;
  const state = used >= 1 ? "spent" : forecast > 1 ? "over" : "";
  const ends = { spent: "Used up: further calls are refused.", over: `Will not last: the month comes to ${shown(budget.forecast)}.` };
  const calm = forecast === null ? "Too early to tell what the month will come to." : `The month comes to ${shown(budget.forecast)}.`;
  return h(
    "li",
    { class: `budget ${state}` },
    h("p", { class: "budget-head" }, h("strong", {}, budget.client_id), h("span", {}, format.percent(used, 1))),
    h("div", { class: "track", "aria-hidden": "true" }, bar("forecast", forecast ?? 0), bar("used", used)),
    h("p", { class: "note" }, `${shown(budget.used)} of ${shown(budget.limit)}. `, h("span", { class: state && "warning" }, ends[state] ?? calm)),
  );
}

/** A part of the track. Its width is set as a property, for the policy allows no style attributes. */
function bar(name, share) {
  const element = h("span", { class: name });
  element.style.width = `${Math.min(share, 1) * 100}%`;
  return element;
}
