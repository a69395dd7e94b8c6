// Elements from data. Rule: what is data becomes text, never markup; nothing in this page sets innerHTML.

export const $ = (id) => document.getElementById(id);

/** An element: `h("td", { class: "number" }, "12")`. Properties with a function are listeners; false, null and undefined are left out. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts `children` in place of what the element holds. */
export const fill = (element, ...children) => element.replaceChildren(...children.flat().filter(Boolean));

/**
 * A table. `columns`: [{ title, of, number, link }]; `of(row)` gives text or an element.
 * Its scrolling parent can be reached by keyboard, so it needs a name.
 */
export function table(caption, columns, rows) {
  const cell = (column, row, index) => {
    const tag = index === 0 ? "th" : "td";
    return h(tag, { scope: index === 0 && "row", class: column.number && "number" }, column.of(row) ?? "–");
  };
  return h(
    "table",
    {},
    h("caption", { class: "visually-hidden" }, caption),
    h("thead", {}, h("tr", {}, columns.map((each) => h("th", { scope: "col", class: each.number && "number" }, each.title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((column, index) => cell(column, row, index))))),
  );
}

/** Radio buttons that look like one control; `choices` is { value: label }. They are made once, so that the focus stays. */
export function segments(fieldset, name, choices, chosen, onChoice) {
  if (!fieldset.querySelector("input")) {
    for (const [value, label] of Object.entries(choices)) {
      const input = h("input", { type: "radio", name, value, change: () => onChoice(value) });
      fieldset.append(h("label", {}, input, h("span", {}, label)));
    }
  }
  for (const input of fieldset.querySelectorAll("input")) input.checked = input.value === chosen;
}

/** The options of a select, as [[value, label]]; what is chosen stays an option even where it is not among them. */
export function options(select, choices, chosen) {
  const known = choices.some(([value]) => value === chosen) ? choices : [...choices, [chosen, chosen]];
  fill(select, known.map(([value, label]) => new Option(label, value, false, value === chosen)));
}
