// The dashboard lives: its numbers are fetched anew every few seconds, and what the operator
// has chosen, opened, focused or scrolled to stays as it is. Without it a reload does the same.
"use strict";

(() => {
  const SECONDS = 5;
  const STORED = "dj-queue-live";
  // Messages are shown once: they are for the page a person comes to, not for a refresh of it.
  const HEADERS = { Accept: "text/html", "X-DjQueue-Live": "1" };
  let timer = null;
  let busy = false;
  let isHeld = false;

  const live = () => document.querySelector("[data-live]");
  const isPaused = () => window.localStorage.getItem(STORED) === "paused";

  // What tells an element of the old page in the new one.
  function place(element) {
    if (!element || element === document.body) return null;
    const form = element.closest("form");
    const keys = ["id", "name", "value", "href", "title"]
      .map((name) => `${name}=${element.getAttribute(name) || ""}`)
      .join("&");
    const queue = form && form.elements.namedItem("queue");
    return `${element.tagName}&${keys}&${queue ? queue.value : ""}`;
  }

  function remember(root) {
    const chosen = new Set();
    root.querySelectorAll("input[name=job]:checked").forEach((box) => chosen.add(box.value));
    const opened = new Map();
    root.querySelectorAll("details[data-keep]").forEach((each) => {
      opened.set(each.dataset.keep, each.open);
    });
    const fields = new Map();
    root.querySelectorAll(".dq-filters input, .dq-filters select").forEach((each) => {
      fields.set(each.name, each.value);
    });
    const scrolled = [...root.querySelectorAll(".dq-scroll")].map((each) => each.scrollLeft);
    const focused = root.contains(document.activeElement) ? place(document.activeElement) : null;
    return { chosen, opened, fields, scrolled, focused };
  }

  function restore(root, state) {
    root.querySelectorAll("input[name=job]").forEach((box) => {
      box.checked = state.chosen.has(box.value);
    });
    root.querySelectorAll("details[data-keep]").forEach((each) => {
      if (state.opened.has(each.dataset.keep)) each.open = state.opened.get(each.dataset.keep);
    });
    root.querySelectorAll(".dq-filters input, .dq-filters select").forEach((each) => {
      if (state.fields.has(each.name)) each.value = state.fields.get(each.name);
    });
    root.querySelectorAll(".dq-scroll").forEach((each, index) => {
      each.scrollLeft = state.scrolled[index] || 0;
    });
    if (state.focused) {
      const same = [...root.querySelectorAll("a, button, input, select, summary")]
        .find((each) => place(each) === state.focused);
      if (same) same.focus({ preventScroll: true });
    }
  }

  async function refresh() {
    if (busy || isHeld || isPaused() || document.hidden) return;
    busy = true;
    try {
      const response = await fetch(window.location.href, { headers: HEADERS });
      if (response.redirected) throw new Error("you are logged out");
      if (response.status === 404) throw new Error("this page is gone");
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.querySelector("[data-live]");
      if (!fresh) throw new Error(`the server answered ${response.status}`);
      // What is being pressed must not be taken from under the pointer.
      if (isPaused() || isHeld) return;
      const top = window.scrollY;
      const old = live();
      const state = remember(old);
      old.replaceWith(document.adoptNode(fresh));
      restore(live(), state);
      connect(live());
      window.scrollTo({ top, behavior: "instant" });
      say("");
    } catch (error) {
      say(`not refreshed: ${error.message}`);
    } finally {
      busy = false;
    }
  }

  function say(text) {
    document.querySelectorAll("[data-live-said]").forEach((each) => {
      if (each.textContent !== text) each.textContent = text;
    });
  }

  function connect(root) {
    const all = root.querySelector("[data-select-all]");
    if (!all) return;
    const boxes = () => [...root.querySelectorAll("input[name=job]")];
    const show = () => {
      all.checked = boxes().length > 0 && boxes().every((box) => box.checked);
    };
    all.hidden = false;
    all.addEventListener("change", () => {
      boxes().forEach((box) => { box.checked = all.checked; });
    });
    root.addEventListener("change", (event) => {
      if (event.target.name === "job") show();
    });
    show();
  }

  function control() {
    document.querySelectorAll("[data-live-control]").forEach((holder) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "dq-button dq-live";
      const said = document.createElement("span");
      said.className = "dq-said";
      said.dataset.liveSaid = "";
      said.setAttribute("role", "status");
      const label = () => {
        button.textContent = isPaused() ? "Go live" : "Live: pause";
        button.classList.toggle("dq-still", isPaused());
        button.title = isPaused() ? "Refresh every few seconds" : "Stop refreshing";
      };
      button.addEventListener("click", () => {
        window.localStorage.setItem(STORED, isPaused() ? "live" : "paused");
        label();
        refresh();
      });
      label();
      holder.replaceChildren(button, said);
    });
  }

  function switcher() {
    const form = document.querySelector("[data-switch]");
    if (!form) return;
    form.querySelector("select").addEventListener("change", () => form.submit());
    form.querySelector("[data-without-script]").hidden = true;
  }

  switcher();
  if (!live()) return;
  control();
  connect(live());
  timer = window.setInterval(refresh, SECONDS * 1000);
  window.addEventListener("pointerdown", () => { isHeld = true; });
  ["pointerup", "pointercancel"].forEach((name) => {
    window.addEventListener(name, () => window.setTimeout(() => { isHeld = false; }, 0));
  });
  window.addEventListener("submit", () => window.clearInterval(timer));
  window.addEventListener("pagehide", () => window.clearInterval(timer));
})();
