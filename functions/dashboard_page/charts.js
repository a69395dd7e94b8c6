// The charts, by Chart.js (vendor/). Rule: a chart is a picture of numbers that stand beside it in a table; what it shows by
// colour the legend says in words, and series are parted by a gap, so that it can be read without telling colours apart.
// The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people of all colour visions can tell apart.

import { fill, h } from "./dom.js";

const { Chart } = globalThis;
const charts = new Map();

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The colour of the nth series; `rest` is grey. */
export const color = (index) => style(index < 7 ? `--series-${index + 1}` : "--series-rest");

/** Stacked columns. `series`: [{ name, values }], at the bottom first. */
export function stacked(canvas, { labels, series, format, axis, description }) {
  const datasets = series.map(({ name, values }, index) => ({
    label: name,
    data: values,
    backgroundColor: color(name === REST ? 7 : index),
    borderColor: style("--surface"),
    borderWidth: { top: 1 },
    borderSkipped: false,
    maxBarThickness: 44,
    categoryPercentage: 0.86,
    barPercentage: 0.92,
  }));
  draw(canvas, "bar", labels, datasets, { format, axis, description, isStacked: true });
}

/** Lines. `series`: [{ name, values, dash }]. */
export function lines(canvas, { labels, series, format, description }) {
  const datasets = series.map(({ name, values, dash = [], tone }, index) => ({
    label: name,
    data: values,
    borderColor: color(tone ?? index),
    backgroundColor: color(tone ?? index),
    borderDash: dash,
    borderWidth: 2,
    pointRadius: ({ dataIndex }) => (isAlone(values, dataIndex) ? 3 : 0),
    pointHoverRadius: 4,
    tension: 0,
    spanGaps: false,
  }));
  draw(canvas, "line", labels, datasets, { format, axis: format, description, isStacked: false });
}

/** Whether a value has no neighbour that a line could lead to. */
const isAlone = (values, index) => (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null;

/** What each colour stands for, with a figure each. */
export function legend(list, entries) {
  fill(
    list,
    entries.map(({ name, tone, figure, dash }) =>
      h("li", {}, h("span", { class: `swatch tone-${tone + 1}${dash ? " dashed" : ""}`, "aria-hidden": "true" }), h("span", { class: "name" }, name), h("span", { class: "figure" }, figure)),
    ),
  );
}

/** The name of what is left beyond the series that are shown. */
export const REST = "All others";

/** The first `most` series and, in one, the rest. `groups`: [{ name, values }], largest first. */
export function withRest(groups, most = 7) {
  if (groups.length <= most + 1) return groups;
  const rest = groups.slice(most);
  const sums = rest[0].values.map((_, index) => rest.reduce((sum, { values }) => sum + values[index], 0));
  return [...groups.slice(0, most), { name: REST, values: sums }];
}

function draw(canvas, type, labels, datasets, { format, axis, description, isStacked }) {
  canvas.setAttribute("aria-label", description);
  charts.get(canvas)?.destroy();
  const text = style("--muted");
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
  const tick = { color: text, font };
  charts.set(
    canvas,
    new Chart(canvas, {
      type,
      data: { labels, datasets },
      options: {
        responsive: true,
        maintainAspectRatio: false,
        animation: false,
        interaction: { mode: "index", intersect: false },
        layout: { padding: { top: 6 } },
        scales: {
          x: {
            stacked: isStacked,
            grid: { display: false },
            border: { color: style("--line") },
            ticks: { ...tick, maxRotation: 0, autoSkipPadding: 18 },
          },
          y: {
            stacked: isStacked,
            beginAtZero: true,
            border: { display: false },
            grid: { color: style("--grid"), drawTicks: false },
            ticks: { ...tick, padding: 8, maxTicksLimit: 5, callback: (value) => axis(value) },
          },
        },
        plugins: {
          legend: { display: false },
          tooltip: tooltip({ font, format, isStacked }),
        },
      },
    }),
  );
}

function tooltip({ font, format, isStacked }) {
  return {
    backgroundColor: style("--tip"),
    titleColor: style("--tip-text"),
    bodyColor: style("--tip-text"),
    footerColor: style("--tip-text"),
    titleFont: { ...font, weight: "600" },
    bodyFont: font,
    footerFont: { ...font, weight: "600" },
    padding: 12,
    cornerRadius: 8,
    boxWidth: 8,
    boxHeight: 8,
    boxPadding: 6,
    usePointStyle: true,
    itemSort: (one, other) => (isStacked ? other.datasetIndex - one.datasetIndex : 0),
    filter: ({ raw }) => raw !== null && (!isStacked || raw !== 0),
    callbacks: {
      label: ({ dataset, raw }) => `${dataset.label}  ${format(raw)}`,
      footer: (items) => (isStacked && items.length > 1 ? `Total  ${format(items.reduce((sum, { raw }) => sum + raw, 0))}` : ""),
    },
  };
}
