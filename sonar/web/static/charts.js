// Draw the charts of a page from the JSON that stands in it. The page is complete without them.
//
//   <div data-charts="ID">, <script type="application/json" id="ID">
//   {times: [s], charts: [{title, unit, percent, names: [], lines: [[]]}], down: [[from, to]], link: "address of an instant"}
"use strict";

(() => {
  const ON_LIGHT = ["#2878b5", "#c4651a", "#2f8a4e", "#a04bb0", "#c23b4b", "#7a6a2f",
                    "#2b8f8f", "#767c86", "#b07f10", "#5b5fc7", "#b0568a", "#5f8f2f"];
  const ON_DARK = ["#5fb0ee", "#f0985a", "#6fd08c", "#d08be0", "#f2808e", "#c9b56a",
                   "#62cfcf", "#b3b9c4", "#f2c45c", "#9ba0ff", "#e58cbb", "#a5d06a"];
  const HEIGHT = 190;
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  // 24 hours, and the day once where it begins: [least increment, label, ..., label at a new day, ..., mode].
  const TIMES = [
    [86400, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
    [60, "{HH}:{mm}", null, null, "\n{MM}-{DD}", null, null, null, 1],
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

  // Shade the times when the node was down.
  function shading(down) {
    return (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.fillStyle = colour("--offline-ground");
      for (const [from, to] of down) {
        const left = Math.max(plot.valToPos(from, "x", true), bbox.left);
        const right = Math.min(plot.valToPos(to, "x", true), bbox.left + bbox.width);
        if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height);
      }
      ctx.restore();
    };
  }

  function options(data, chart, width, height, isSmall) {
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const top = chart.percent ? 100 : 0;
    const colours = dark.matches ? ON_DARK : ON_LIGHT;
    return {
      width, height, padding: [8, 22, 0, 0],
      legend: { show: chart.lines.length > 1 || !isSmall },
      tzDate: (instant) => uPlot.tzDate(new Date(instant * 1000), "Etc/UTC"),
      cursor: { sync: { key: "load" }, y: false },
      hooks: { drawClear: [shading(data.down || [])] },
      scales: { y: { range: (_plot, _low, high) => [0, Math.max(high * 1.05, top, 1)] } },
      axes: [{ ...axis, values: TIMES, space: 60 }, { ...axis, size: 50 }],
      series: [
        { label: "UTC", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
        ...shortNames(chart.names).map((label, at) => ({
          label, stroke: colours[at % colours.length], width: 2, spanGaps: false,
          fill: chart.lines.length === 1 ? colours[0] + "22" : undefined, points: { show: true, size: 5, filter: alone },
          value: (_plot, value) => (value === null ? "–" : value + (chart.percent ? " %" : "")),
        })),
      ],
    };
  }

  function inner(box) {
    const style = getComputedStyle(box);
    return box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  }

  function show(holder) {
    let plots = [];
    const isWall = matchMedia("(min-width: 120rem)").matches;
    const height = Number((isWall && holder.dataset.heightWall) || holder.dataset.height || HEIGHT);

    function draw() {
      const data = JSON.parse(document.getElementById(holder.dataset.charts).textContent);
      plots.forEach(({ plot }) => plot.destroy());
      holder.dataset.number = data.charts.length;
      holder.replaceChildren();
      plots = data.charts.map((chart) => {
        const box = document.createElement("div");
        box.className = "chart";
        const title = document.createElement("h3");
        const unit = document.createElement("small");
        unit.textContent = chart.unit;
        title.append(chart.title + " ", unit);
        if (chart.meaning) title.title = chart.meaning;
        const picture = document.createElement("div");
        picture.setAttribute("role", "img");
        picture.setAttribute("aria-label", `${chart.title}, ${chart.unit}, of ${chart.names.join(", ")} over time`);
        box.append(title, picture);
        holder.append(box);
        const plot = new uPlot(options(data, chart, inner(box), height, "height" in holder.dataset), [data.times, ...chart.lines], picture);
        if (data.link) {
          plot.over.addEventListener("click", () => {
            const at = plot.cursor.idx;
            if (at != null) location.href = data.link + data.times[at];
          });
          plot.over.title = "click: the jobs of that time";
        }
        return { box, plot };
      });
    }

    draw();
    dark.addEventListener("change", draw);
    document.addEventListener("sonar:charts", draw);
    new ResizeObserver(() => plots.forEach(({ box, plot }) => plot.setSize({ width: inner(box), height })))
      .observe(holder);
  }

  document.querySelectorAll("[data-charts]").forEach(show);
})();
