// What is looked at: the part of the address behind `#`, so that a view can be bookmarked, sent and gone back to.
// Rule: the calendar is the time zone's that was chosen; the API knows it too, and says which periods there are.

const DEFAULTS = {
  range: "30d",
  from: "",
  to: "",
  by: "model",
  client_id: "",
  model: "",
  deployment: "",
  zone: "UTC",
  measure: "cost",
  latency: "first_byte_ms",
  call: "",
};

export const RANGES = {
  "24h": "24 h",
  "7d": "7 days",
  "30d": "30 days",
  month: "This month",
  last: "Last month",
  "12m": "12 months",
  custom: "Custom",
};
export const GROUPS = { client_id: "Client", cost_center: "Cost center", model: "Model", deployment: "Deployment", operation: "Operation" };
export const FILTERS = ["client_id", "model", "deployment"];

export function read() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const view = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) if (asked[name] !== undefined) view[name] = asked[name];
  if (!(view.range in RANGES)) view.range = DEFAULTS.range;
  if (!(view.by in GROUPS)) view.by = DEFAULTS.by;
  if (!isZone(view.zone)) view.zone = "UTC";
  return view;
}

/** Changes the address, which has the page shown anew. */
export function change(changes) {
  const view = { ...read(), ...changes };
  const different = Object.entries(view).filter(([name, value]) => value !== DEFAULTS[name]);
  location.hash = new URLSearchParams(different).toString();
}

export const own = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
export const zones = () => [...new Set(["UTC", own(), ...(Intl.supportedValuesOf?.("timeZone") ?? [])])];

function isZone(name) {
  try {
    return Boolean(new Intl.DateTimeFormat("en", { timeZone: name }));
  } catch {
    return false;
  }
}

/**
 * What a view asks of the API: { start, end, granularity, time_zone }. Dates without a zone are days of the time zone; `end`
 * is not included any more.
 */
export function span(view, now = Date.now()) {
  const time_zone = view.zone;
  const today = dateIn(now, time_zone);
  const days = (first, last) => ({ start: first, end: later(last, 1), granularity: "day", time_zone });
  const hour = Math.floor(now / HOUR) * HOUR;
  switch (view.range) {
    case "24h":
      return { start: at(hour - 23 * HOUR), end: at(hour + HOUR), granularity: "hour", time_zone };
    case "7d":
      return days(later(today, -6), today);
    case "month":
      return days(monthOf(today), today);
    case "last":
      return days(monthOf(today, -1), later(monthOf(today), -1));
    case "12m":
      return { ...days(monthOf(today, -11), today), granularity: "month" };
    case "custom":
      return chosen(view, days) ?? days(later(today, -29), today);
    default:
      return days(later(today, -29), today);
  }
}

/** As much time before as has passed. `start` and `end` are the instants of an answer; only the sum matters, so no zone does. */
export function before({ start, end }, now = Date.now()) {
  const length = Math.ceil((Math.min(Date.parse(end), now) - Date.parse(start)) / HOUR) * HOUR;
  return { start: at(Date.parse(start) - Math.max(length, HOUR)), end: at(Date.parse(start)), granularity: "month" };
}

/** The names of all periods of an answer, as the API writes them; it leaves out those in which nothing happened. */
export function periods({ start, end, time_zone }, granularity) {
  const names = [];
  if (granularity === "hour") {
    for (let each = Date.parse(start); each < Date.parse(end); each += HOUR) names.push(at(each));
    return names;
  }
  const last = dateIn(Date.parse(end) - 1, time_zone);
  const first = dateIn(Date.parse(start), time_zone);
  if (granularity === "month") for (let each = monthOf(first); each <= last; each = monthOf(each, 1)) names.push(each.slice(0, 7));
  else for (let each = first; each <= last; each = later(each, 1)) names.push(each);
  return names;
}

/** Of an instant, the date in a zone: `2026-11-21`. */
export function dateIn(instant, zone) {
  const style = { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", calendar: "gregory", numberingSystem: "latn" };
  const parts = Object.fromEntries(new Intl.DateTimeFormat("en", style).formatToParts(new Date(instant)).map(({ type, value }) => [type, value]));
  return `${parts.year}-${parts.month}-${parts.day}`;
}

/** The date so many days later. */
export const later = (date, days) => new Date(Date.parse(date) + days * 24 * HOUR).toISOString().slice(0, 10);

const HOUR = 3_600_000;
const LONGEST_BY_DAY = 92;
const at = (instant) => new Date(instant).toISOString().replace(":00.000Z", "Z");

function monthOf(date, months = 0) {
  const [year, month] = date.split("-").map(Number);
  return new Date(Date.UTC(year, month - 1 + months, 1)).toISOString().slice(0, 10);
}

function chosen({ from, to }, days) {
  if (!isDate(from) || !isDate(to) || from > to) return null;
  const length = (Date.parse(to) - Date.parse(from)) / (24 * HOUR) + 1;
  return { ...days(from, to), granularity: length <= 2 ? "hour" : length > LONGEST_BY_DAY ? "month" : "day" };
}

const isDate = (text) => /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(text));
