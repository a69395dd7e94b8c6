// The gateway's API. Rule: the key lives in this tab's sessionStorage and goes into no address, log or other storage.

const KEY = "tollgate.key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/**
 * What is at `path`, which is relative to the page: an object or, where that is what is accepted, text. Parameters that are
 * empty are left out. Throws Refused.
 */
export async function get(path, parameters = {}, { signal, accept = "application/json" } = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined));
  const headers = { accept, ...(key.get() && { authorization: `Bearer ${key.get()}` }) };
  let answer;
  try {
    answer = await fetch(query.size ? `${path}?${query}` : path, { headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The gateway cannot be reached. Check the connection, then try again.");
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, body.error?.message ?? `The gateway answered ${answer.status}.`);
  }
  return accept === "application/json" ? answer.json() : answer.text();
}
