// Draw the load charts of a cluster's page from the JSON that stands in it. The page is complete without them.
"use strict";

(() => {
  const COLOURS = ["#2878b5", "#d1731b", "#3a9a5b", "#a04bb0", "#c23b4b", "#7a6a2f",
                   "#3aa3a3", "#8a8f98", "#e0a526", "#5b5fc7", "#b0568a", "#5f8f2f"];
  const HEIGHT = 190;

  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const holder = document.getElementById("charts");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let plots = [];

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  // 24 hours, and the day once where it begins: [least increment, label, ..., label at a new day, ..., mode].
  const TIMES = [
    [86400, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
    [60, "{HH}:{mm}", null, null, "\n{YYYY}-{MM}-{DD}", null, null, null, 1],
  ];

  // A line needs two neighbours; a value between two gaps is drawn as a point.
  function alone(plot, at) {
    const values = plot.data[at];
    return [...values.keys()].filter((i) => values[i] !== null && values[i - 1] == null && values[i + 1] == null);
  }

  // "gpu-1.demo.example.org" is "gpu-1" in a legend, as long as that tells the nodes apart.
  function shortNames(names) {
    const short = names.map((name) => name.split(".")[0]);
    return new Set(short).size === names.length ? short : names;
  }

  function options(chart, width) {
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const top = chart.percent ? 100 : 0;
    return {
      width, height: HEIGHT,
      tzDate: (instant) => uPlot.tzDate(new Date(instant * 1000), "Etc/UTC"),
      cursor: { sync: { key: "load" }, y: false },
      scales: { y: { range: (_plot, _low, high) => [0, Math.max(high * 1.05, top, 1)] } },
      axes: [{ ...axis, values: TIMES, space: 60 }, { ...axis, size: 46 }],
      series: [
        { label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
        ...shortNames(data.names).map((label, at) => ({
          label, stroke: COLOURS[at % COLOURS.length], width: 2, spanGaps: false, points: { show: true, size: 5, filter: alone },
          value: (_plot, value) => (value === null ? "–" : value + (chart.percent ? " %" : "")),
        })),
      ],
    };
  }

  function draw() {
    plots.forEach(({ plot }) => plot.destroy());
    holder.replaceChildren();
    plots = data.charts.map((chart) => {
      const box = document.createElement("div");
      box.className = "chart";
      const title = document.createElement("h3");
      const unit = document.createElement("small");
      unit.textContent = chart.percent ? "% of all" : chart.unit;
      title.append(chart.title + " ", unit);
      box.append(title);
      box.setAttribute("role", "img");
      box.setAttribute("aria-label", `${chart.title} of ${data.names.join(", ")} since ${data.from}`);
      holder.append(box);
      return { box, plot: new uPlot(options(chart, inner(box)), [data.times, ...chart.lines], box) };
    });
  }

  function inner(box) {
    const style = getComputedStyle(box);
    return box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  }

  draw();
  dark.addEventListener("change", draw);
  new ResizeObserver(() => plots.forEach(({ box, plot }) => plot.setSize({ width: inner(box), height: HEIGHT })))
    .observe(holder);
})();
