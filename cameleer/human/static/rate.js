// The rating page: keys, a draft that outlives a reload or a lost connection, time while looked at.
"use strict";

const form = document.getElementById("rating");
const said = document.getElementById("said");
const owner = `cameleer:${form.dataset.rater}:`; // another person at this browser has other drafts
const key = owner + form.dataset.task;
const PATIENCE = 20000; // milliseconds for the server to answer
const KEPT = 20; // drafts of rated items that undo can bring back
const CHOICES = {
  q: ["first_acceptable", "yes"], w: ["first_acceptable", "no"],
  a: ["second_acceptable", "yes"], s: ["second_acceptable", "no"],
  1: ["preference", "-2"], 2: ["preference", "-1"], 3: ["preference", "0"],
  4: ["preference", "1"], 5: ["preference", "2"],
  z: ["quality", "good"], x: ["quality", "invalid"], c: ["quality", "too_hard"],
};
const FIELDS = ["first_acceptable", "second_acceptable", "preference", "quality", "comment"];

// What a browser keeps for this tab. Where it may keep nothing, a reload loses the draft.

function load(name) {
  try { return JSON.parse(sessionStorage.getItem(name)); } catch { return null; }
}

function keep(name, value) {
  try { sessionStorage.setItem(name, JSON.stringify(value)); return true; } catch { return false; }
}

function drafts() {
  try {
    return Object.keys(sessionStorage).filter((name) => name.startsWith(owner));
  } catch { return []; }
}

function forgetOld() {
  const done = drafts().map((name) => [name, load(name)]).filter(([, one]) => one?.done);
  done.sort(([, one], [, other]) => other.time - one.time);
  for (const [name] of done.slice(KEPT)) sessionStorage.removeItem(name);
}

// The draft of this item: what was chosen, under which name it is sent, how long it was looked at.

const draft = load(key) ?? { seconds: 0 };
if (draft.done || !draft.submission) { // new, or brought back by undo: to be sent under a new name
  Object.assign(draft, { done: false, sending: false, submission: form.elements.submission.value });
}
let since = document.hidden ? null : performance.now();
let busy = false;
let timer = 0;

function countTime() {
  const now = performance.now();
  if (since !== null) draft.seconds += (now - since) / 1000;
  since = document.hidden ? null : now;
}

function chosen() {
  const data = new FormData(form);
  return Object.fromEntries(FIELDS.map((name) => [name, data.get(name) ?? ""]));
}

function keepDraft() {
  countTime();
  draft.fields = chosen();
  draft.time = Date.now();
  return keep(key, draft);
}

function restore() {
  for (const [name, value] of Object.entries(draft.fields ?? {})) {
    const field = form.elements[name];
    if (field) field.value = value; // of radio buttons too: the one of that value is checked
  }
}

function tell(kind, text) {
  said.dataset.kind = kind;
  said.textContent = text;
}

// Sending. The same submission sent twice is one rating, so it is sent until there is an answer.

function asForm(one) {
  const fields = { ...one.fields, seconds: one.seconds.toFixed(1), submission: one.submission };
  return new URLSearchParams({ ...fields, csrf: form.elements.csrf.value });
}

async function post(task, one) {
  const answer = await fetch(`/rate/${task}`, {
    method: "POST",
    body: asForm(one),
    headers: { Accept: "application/json" },
    credentials: "same-origin",
    redirect: "error",
    signal: AbortSignal.timeout(PATIENCE),
  });
  const text = await answer.text();
  let reply = {};
  try { reply = JSON.parse(text); } catch { reply = {}; }
  return { status: answer.status, after: Number(answer.headers.get("Retry-After")), reply };
}

async function send(tries = 0) {
  clearTimeout(timer);
  if (busy) return;
  busy = true;
  sending(true);
  tell("draft", "Saving…");
  let got;
  try {
    got = await post(form.dataset.task, draft);
  } catch {
    got = { status: 0, reply: {} };
  }
  busy = false;
  answered(got, tries);
}

function answered({ status, after, reply }, tries) {
  if (status === 200) {
    Object.assign(draft, { sending: false, done: true });
    keep(key, draft);
    keep("cameleer-news", ["saved", "Saved."]);
    forgetOld();
    leave(reply.next);
  } else if (status === 0 || status === 408 || status === 429 || status >= 500) {
    const wait = after || Math.min(30, 2 ** tries);
    const why = status === 429 ? "the server asks to wait" : "the server cannot be reached";
    tell("waiting", `Not saved yet: ${why}. Kept here, and tried again in ${wait} s.`);
    timer = setTimeout(() => send(tries + 1), wait * 1000);
  } else if (status === 401) {
    sending(false);
    tell("lost", "Not saved yet: you were signed out. It is kept here: ");
    const link = document.createElement("a");
    link.href = "/login";
    link.textContent = "sign in and go on rating, and it is sent.";
    said.append(link);
  } else if (status === 403 && !draft.reloaded) { // signed in anew, in another tab
    draft.reloaded = true;
    keep(key, draft);
    leave("/rate");
  } else if (status === 404) { // not this person's item any more
    sessionStorage.removeItem(key);
    keep("cameleer-news", ["wrong", "The item before is not yours any more: its rating was not taken."]);
    leave("/rate");
  } else {
    draft.sending = false;
    keep(key, draft);
    sending(false);
    tell("wrong", reply.error ?? "Not saved: the server did not take it.");
  }
}

let leaving = false; // to be answered by the server, with nothing left to keep
let within = false; // by a link of ours: the tab stays open, and so the draft
document.addEventListener("click", (event) => { within = Boolean(event.target.closest("a[href^='/']")); });

function leave(to) {
  leaving = true;
  location.assign(to);
}

function sending(now) {
  document.getElementById("send").setAttribute("aria-disabled", String(now));
}

async function resend(name) {
  const one = load(name);
  let status = 0;
  try { ({ status } = await post(name.slice(owner.length), one)); } catch { return; }
  if (status === 200 || status === 404 || status === 422) keep(name, { ...one, sending: false, done: true });
}

function missing() {
  const fields = chosen();
  if (fields.quality !== "good") return null;
  return FIELDS.slice(0, 3).find((name) => !fields[name]) ?? null;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (busy || draft.done) return;
  const name = missing();
  markMissing(name);
  if (name) {
    tell("wrong", document.getElementById(`asks-${name}`).dataset.ask);
    form.querySelector(`[name=${name}]`).focus();
    return;
  }
  draft.sending = true;
  delete draft.reloaded;
  keepDraft();
  send();
});

function markMissing(name) {
  for (const one of form.querySelectorAll("fieldset")) one.classList.toggle("missing", one.id === `asks-${name}`);
}

form.addEventListener("input", () => {
  if (busy) return restore(); // what is on its way is what shows
  clearTimeout(timer); // what waited to be sent is no longer what is wanted
  draft.sending = false;
  sending(false);
  markMissing(null);
  const kept = keepDraft();
  tell("draft", kept ? "Not saved yet. Kept in this browser until you submit."
    : "Not saved yet. This browser keeps nothing: a reload would lose it.");
});

// Keys. Letters by what is printed on them; on keyboards of other scripts by where they are.

function letter(event) {
  if (/^[a-z0-9?]$/i.test(event.key)) return event.key.toLowerCase();
  if (event.shiftKey) return event.code === "Slash" ? "?" : "";
  return (/^(?:Key|Digit|Numpad)([A-Z0-9])$/.exec(event.code)?.[1] ?? "").toLowerCase();
}

function choose(name, value) {
  const input = form.querySelector(`[name=${name}][value="${value}"]`);
  input.checked = true;
  input.focus({ preventScroll: true });
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

const help = document.getElementById("help");
const byKey = document.getElementById("by-key");
const comment = form.elements.comment;

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.repeat || event.altKey || help.open) return;
  const target = event.target;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return act(event, () => form.requestSubmit());
  if (event.ctrlKey || event.metaKey) return;
  if (target === comment) {
    if (event.key === "Escape") comment.blur();
    return;
  }
  if (event.key === "Enter" && !target.closest("a, button, summary")) return act(event, () => form.requestSubmit());
  if (!byKey.checked) return;
  const pressed = letter(event);
  if (CHOICES[pressed]) act(event, () => choose(...CHOICES[pressed]));
  else if (pressed === "n") act(event, () => comment.focus());
  else if (pressed === "u") act(event, () => document.getElementById("undo")?.requestSubmit());
  else if (pressed === "t") act(event, togglePlain);
  else if (pressed === "?") act(event, () => help.showModal());
});

function act(event, what) {
  event.preventDefault();
  what();
}

// What this browser is told for good: see early.js, which sets it before the page is drawn.

function remember(name, value) {
  try { localStorage.setItem(name, value); } catch { /* then it holds for this page */ }
}

const plain = document.getElementById("plain");
function togglePlain() {
  const on = document.documentElement.classList.toggle("as-plain");
  plain.setAttribute("aria-pressed", String(on));
  remember("cameleer-plain", on ? "on" : "off");
}
plain.addEventListener("click", togglePlain);
plain.setAttribute("aria-pressed", String(document.documentElement.classList.contains("as-plain")));

byKey.checked = document.documentElement.classList.contains("with-keys");
byKey.addEventListener("change", () => {
  document.documentElement.classList.toggle("with-keys", byKey.checked);
  remember("cameleer-keys", byKey.checked ? "on" : "off");
});
document.getElementById("show-help").addEventListener("click", () => help.showModal());

// Time counts while the page is looked at; what was begun is kept whenever it is left.

document.addEventListener("visibilitychange", () => { if (!leaving) keepDraft(); });
addEventListener("pagehide", () => { if (!leaving) keepDraft(); });
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
addEventListener("online", () => { if (draft.sending && !draft.done) send(); });
addEventListener("beforeunload", (event) => {
  if (draft.sending && !leaving && !within) event.preventDefault(); // closing would lose it
});

restore();
if (draft.sending) {
  send(); // it was on its way when the page was left
} else if (load("cameleer-news")) {
  tell(...load("cameleer-news"));
  sessionStorage.removeItem("cameleer-news");
} else if (FIELDS.some((name) => name !== "quality" && draft.fields?.[name])) {
  tell("draft", "Not saved yet. This is what you had chosen.");
}
for (const name of drafts()) if (name !== key && load(name)?.sending) resend(name);
