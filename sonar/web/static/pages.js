// What all pages share: renewing what changes while the place on the page stays. Every page is complete without it.
"use strict";

(() => {
  const PERIOD_MS = 60000;
  let tag = "";

  // Fetch the page again, and put those of its parts in place that say that they change.
  async function renew() {
    const response = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (response.status === 304 || response.redirected || !response.ok) return;
    tag = response.headers.get("ETag") || "";
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const old of document.querySelectorAll("[data-refresh]")) {
      const part = fresh.querySelector(`[data-refresh="${old.dataset.refresh}"]`);
      if (!part) continue;
      const scroll = old.querySelector(".scroll");
      const left = scroll ? scroll.scrollLeft : 0;
      const checked = Object.fromEntries([...old.querySelectorAll("input[type=checkbox]")].map((box) => [box.id, box.checked]));
      old.className = part.className;
      old.replaceChildren(...part.childNodes);
      for (const box of old.querySelectorAll("input[type=checkbox]")) if (box.id in checked) box.checked = checked[box.id];
      const renewed = old.querySelector(".scroll");
      if (renewed) renewed.scrollLeft = left;
    }
    const data = document.getElementById("chart-data");
    const freshData = fresh.getElementById("chart-data");
    if (data && freshData && data.textContent !== freshData.textContent) {
      data.textContent = freshData.textContent;
      document.dispatchEvent(new Event("sonar:charts"));
    }
  }

  if (document.querySelector("[data-refresh]")) {
    setInterval(() => {
      const box = document.getElementById("auto-refresh");
      const isTyping = document.activeElement && document.activeElement.closest("[data-refresh]");
      if ((!box || box.checked) && !document.hidden && !isTyping) renew().catch(() => {});
    }, PERIOD_MS);
  }
})();
