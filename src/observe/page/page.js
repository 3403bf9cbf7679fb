"use strict";
// Without it the page shows the same facts; it keeps them fresh.
(() => {
  const every = 10_000;
  // The daemon's clock, not this machine's.
  let skew = Date.parse(document.documentElement.dataset.now) - Date.now();
  let unreachableSince = null;

  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const distance = (seconds) => {
    let left = Math.max(0, Math.floor(seconds));
    let first = units.findIndex(([size]) => left >= size);
    if (first < 0) first = units.length - 1;
    const parts = [];
    for (const [size, unit] of units.slice(first, first + 2)) {
      const count = Math.floor(left / size);
      if (count > 0 || parts.length === 0) parts.push(count + unit);
      left %= size;
    }
    return parts.join(" ");
  };
  const put = (element, words) => {
    if (element.textContent !== words) element.textContent = words;
  };

  const tick = () => {
    const now = Date.now() + skew;
    for (const element of document.querySelectorAll("[data-since]")) {
      put(element, distance((now - Date.parse(element.dataset.since)) / 1000));
    }
    for (const element of document.querySelectorAll("[data-until]")) {
      const left = (Date.parse(element.dataset.until) - now) / 1000;
      put(element, left > 0 ? "in " + distance(left) : "now");
    }
  };

  // What has not changed is not touched, not even moved: the reader's selection and place are in it.
  const renewServers = (fresh) => {
    const servers = document.getElementById("servers");
    const known = new Map([...servers.children].filter((it) => it.id).map((it) => [it.id, it]));
    const wanted = [...fresh.getElementById("servers").children].map((young) => {
      const old = known.get(young.id);
      if (old && old.dataset.key === young.dataset.key) return old;
      // What the reader has opened or folded stays so.
      if (old && young.tagName === "DETAILS") young.open = old.open;
      return young;
    });
    const kept = new Set(wanted);
    for (const old of [...servers.children]) if (!kept.has(old)) old.remove();
    let place = servers.firstElementChild;
    for (const element of wanted) {
      if (element === place) place = place.nextElementSibling;
      else servers.insertBefore(element, place);
    }
  };

  const renew = (fresh) => {
    // Kept as an element, so that a screen reader tells what it says now.
    const headline = document.getElementById("headline");
    put(headline, fresh.getElementById("headline").textContent);
    headline.className = fresh.getElementById("headline").className;
    for (const young of fresh.querySelectorAll("[data-renew]")) {
      const old = document.getElementById(young.id);
      if (old.outerHTML !== young.outerHTML && !old.contains(document.activeElement)) old.replaceWith(young);
    }
    // How many servers are how, whatever the reader has chosen meanwhile.
    for (const young of fresh.querySelectorAll("#filter option")) {
      put(document.querySelector(`#filter option[value="${young.value}"]`), young.textContent);
    }
    renewServers(fresh);
    document.title = fresh.title;
    skew = Date.parse(fresh.documentElement.dataset.now) - Date.now();
  };

  const refresh = async () => {
    const unreachable = document.getElementById("unreachable");
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(every) });
      if (!answer.ok) throw new Error("answered " + answer.status);
      renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
      unreachableSince = null;
    } catch {
      unreachableSince ??= new Date(Date.now() + skew);
      const words = "snapring cannot be reached";
      document.title = words;
      const time = unreachableSince.toISOString().slice(11, 19);
      put(unreachable, `${words} since ${time} UTC. What stands here is old.`);
    }
    unreachable.hidden = unreachableSince === null;
    document.body.classList.toggle("old", unreachableSince !== null);
    tick();
  };

  setInterval(tick, 1000);
  setInterval(() => document.hidden || refresh(), every);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  tick();
})();
