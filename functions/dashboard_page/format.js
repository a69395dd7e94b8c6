// Numbers, money and instants as people read them. Rule: what is not known is "–", never 0.

const UNKNOWN = "–";
const locale = navigator.language || "en";
const known = (value) => value !== null && value !== undefined;
const whole = new Intl.NumberFormat(locale);
const short = new Intl.NumberFormat(locale, { notation: "compact", maximumSignificantDigits: 3 });
const rate = new Intl.NumberFormat(locale, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const fineRate = new Intl.NumberFormat(locale, { style: "percent", maximumSignificantDigits: 2 });

export const count = (value) => (known(value) ? whole.format(value) : UNKNOWN);
/** A number of things: `1 call`, `2 calls`. */
export const things = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
export const compact = (value) => (known(value) ? (value < 10_000 ? whole.format(value) : short.format(value)) : UNKNOWN);

/** A part of a whole. Small ones keep two digits, so that 1 error in 50,000 calls is not 0 %. */
export function percent(part, of) {
  if (!of) return UNKNOWN;
  const share = part / of;
  return (share > 0 && share < 0.001 ? fineRate : rate).format(share);
}

/** Money of a decimal string, exact to the cent; what is less than a cent keeps two digits. On an axis: as short as it goes. */
export function money(amount, currency, place = "text") {
  if (!known(amount)) return UNKNOWN;
  const size = Math.abs(Number(amount));
  const cents = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  const text = size > 0 && size < 0.01 ? { maximumSignificantDigits: 2 } : cents;
  const axis = size >= 10_000 ? { notation: "compact", maximumSignificantDigits: 3 } : { ...text, trailingZeroDisplay: "stripIfInteger" };
  return new Intl.NumberFormat(locale, { style: "currency", currency, ...(place === "axis" ? axis : text) }).format(amount);
}

export function duration(ms) {
  if (!known(ms)) return UNKNOWN;
  if (ms < 1000) return `${whole.format(Math.round(ms))} ms`;
  if (ms < 60_000) return `${new Intl.NumberFormat(locale, { maximumSignificantDigits: 3 }).format(ms / 1000)} s`;
  return `${new Intl.NumberFormat(locale, { maximumFractionDigits: 1 }).format(ms / 60_000)} min`;
}

export function bytes(size) {
  if (!known(size)) return UNKNOWN;
  const steps = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const step = Math.min(steps.length - 1, Math.floor(Math.log10(Math.max(size, 1)) / 3));
  const style = { style: "unit", unit: steps[step], unitDisplay: "short", maximumSignificantDigits: 3 };
  return new Intl.NumberFormat(locale, style).format(size / 1000 ** step);
}

const formats = new Map();
function dated(instant, zone, style) {
  const name = `${zone} ${JSON.stringify(style)}`;
  if (!formats.has(name)) formats.set(name, new Intl.DateTimeFormat(locale, { timeZone: zone, ...style }));
  return formats.get(name).format(new Date(instant));
}

export const instant = (at, zone) =>
  dated(at, zone, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const minute = (at, zone) =>
  dated(at, zone, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

/** A period by the API's name for it. Days and months are dates: they are the same whatever the zone. */
export function period(name, zone) {
  if (name.length === 7) return dated(`${name}-01`, "UTC", { month: "short", year: "numeric" });
  if (name.length === 10) return dated(name, "UTC", { day: "numeric", month: "short" });
  return dated(name, zone, { weekday: "short", hour: "2-digit", minute: "2-digit" });
}

export const date = (name) => dated(name, "UTC", { day: "numeric", month: "short", year: "numeric" });
