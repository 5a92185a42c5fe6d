// What all pages share: renewing what changes while the place on the page stays. Every page is complete without it.
"use strict";

(() => {
  const PERIOD_MS = 60000;
  const SOON_MS = 5000; // where the page shows an old state that is being computed again
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
      old.toggleAttribute("data-soon", part.hasAttribute("data-soon"));
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

  // Ages go on while a page is open: the same words and levels as the server's.
  function tell() {
    for (const place of document.querySelectorAll("[data-age]")) {
      const time = place.querySelector("time"), text = place.querySelector("b");
      if (!time || !text) continue;
      const minutes = Math.max(Math.floor((Date.now() - Date.parse(time.dateTime)) / 60000), 0);
      const hours = Math.floor(minutes / 60);
      text.textContent = minutes < 1 ? "just now" : minutes < 60 ? `${minutes} min ago`
        : hours < 48 ? `${hours} h ${minutes % 60} min ago` : `${Math.floor(hours / 24)} days ago`;
      place.classList.remove("live", "stale", "offline");
      place.classList.add(minutes < 5.5 ? "live" : minutes <= 15 ? "stale" : "offline");
    }
  }
  if (document.querySelector("[data-age]")) setInterval(tell, 20000);

  if (document.querySelector("[data-refresh]:not([data-age])")) {
    const wait = () => setTimeout(async () => {
      const box = document.getElementById("auto-refresh");
      const isTyping = document.activeElement && document.activeElement.closest("[data-refresh]");
      if ((!box || box.checked) && !document.hidden && !isTyping) await renew().catch(() => {});
      wait();
    }, document.querySelector("[data-soon]") ? SOON_MS : PERIOD_MS);
    wait();
  }
})();
