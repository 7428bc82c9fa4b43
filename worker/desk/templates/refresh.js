// Reloads the page regularly, and replaces its content with the new one. The page's data-refresh is the least number of
// seconds between two loads. The pages also work without scripts.
"use strict";

const page = document.getElementById("page");
const freshness = document.getElementById("freshness");
// The time between two loads is at least this many times as long as a load takes, so that an open page of a large batch
// does not burden the database.
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

// The result of a command stays until the person leaves the page.
function put(fresh) {
  const done = page.querySelector(".done");
  const focused = document.activeElement?.getAttribute("href");
  page.replaceChildren(...(done ? [done] : []), ...fresh.childNodes);
  if (focused) {
    page.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
}

// A scanner ends a serial number with Enter. Then focus the next empty field, without an error message.
document.addEventListener("invalid", (event) => {
  if (event.target.validity.valueMissing && event.target.type !== "radio") {
    event.preventDefault();
    event.target.form.querySelector("input:invalid").focus();
  }
}, true);

if (page?.dataset.refresh) {
  setTimeout(refresh, 1000 * Number(page.dataset.refresh));
}
