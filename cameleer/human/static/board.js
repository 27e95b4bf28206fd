// The dashboard: its numbers are fetched again every few seconds while it is looked at.
"use strict";

const board = document.getElementById("numbers");
const note = document.getElementById("updated");
const EVERY = 5000; // milliseconds
let last = "";

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/admin/numbers", { credentials: "same-origin", redirect: "error" });
    if (answer.status === 401 || answer.status === 403) {
      clearInterval(ticking);
      note.textContent = "You were signed out: load the page again.";
      return;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.text());
    note.textContent = `As of ${new Date().toLocaleTimeString()}.`;
  } catch {
    note.textContent = "The server cannot be reached: these numbers are old.";
  }
}

function show(html) {
  if (html === last) return;
  last = html;
  const page = new DOMParser().parseFromString(html, "text/html");
  board.replaceChildren(...page.body.childNodes);
}

const ticking = setInterval(refresh, EVERY);
document.addEventListener("visibilitychange", refresh);
