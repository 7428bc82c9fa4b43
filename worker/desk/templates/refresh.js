// Loads the page again now and then, and puts its new content in place of the old, so that nobody has to reload it. A
// page says by data-refresh how many seconds are between two loads at least. Without scripts the pages work as well.
"use strict";

const page = document.getElementById("page");
const freshness = document.getElementById("freshness");
// Between two loads is at least ten times what a load takes, so that looking at a large batch does not load its database.
const REST = 10;

function isBusy() {
  const selection = document.getSelection();
  return document.hidden || (selection !== null && !selection.isCollapsed);
}

async function refresh() {
  const began = performance.now();
  let pause = 1000 * Number(page.dataset.refresh);
  try {
    if (!isBusy()) {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("page");
      if (!answer.ok || fresh === null) {
        throw new Error(String(answer.status));
      }
      put(fresh);
      freshness.textContent = "";
    }
  } catch {
    if (freshness.textContent === "") {
      freshness.textContent = `Not up to date: the desk has not answered since ${new Date().toLocaleTimeString()}.`;
    }
  }
  pause = Math.max(pause, REST * (performance.now() - began));
  setTimeout(refresh, pause);
}

// A line about a command that was done stays until the page is left.
function put(fresh) {
  const done = page.querySelector(".done");
  const focused = document.activeElement?.getAttribute("href");
  page.replaceChildren(...(done ? [done] : []), ...fresh.childNodes);
  if (focused) {
    page.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
}

// A scanner ends a serial number with Enter: the next field that is empty has its turn, without a complaint.
document.addEventListener("invalid", (event) => {
  if (event.target.validity.valueMissing && event.target.type !== "radio") {
    event.preventDefault();
    event.target.form.querySelector("input:invalid").focus();
  }
}, true);

if (page?.dataset.refresh) {
  setTimeout(refresh, 1000 * Number(page.dataset.refresh));
}
