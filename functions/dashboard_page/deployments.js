// The deployments as they are now.

import { $, fill, h, table } from "./dom.js";
import * as format from "./format.js";

export function deployments({ deployments: all }) {
  const columns = [
    { title: "Deployment", of: (each) => each.name },
    { title: "Model", of: (each) => each.model },
    { title: "Upstream", of: (each) => each.upstream },
    { title: "State", of: state },
    { title: "Priority", number: true, of: (each) => each.priority },
    { title: "Under way", number: true, of: (each) => format.count(each.health?.outstanding) },
    { title: "First byte", number: true, of: (each) => format.duration(each.health?.first_byte_ms) },
  ];
  fill($("health"), all.length ? table("Deployments now", columns, all) : h("p", { class: "note" }, "No deployment is configured."));
}

function state({ health }) {
  if (!health) return h("span", { class: "badge" }, "Not asked yet");
  if (health.rests_s > 0) {
    const why = health.is_rate_limited ? "At its limit" : "Failing";
    return h("span", { class: `badge ${health.is_rate_limited ? "fair" : "bad"}` }, `${why}, ${format.duration(health.rests_s * 1000)} to go`);
  }
  return health.breaker === "closed" ? h("span", { class: "badge good" }, "In use") : h("span", { class: "badge fair" }, "Being tried");
}
