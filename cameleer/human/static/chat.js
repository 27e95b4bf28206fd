// The page of a chat: shows what the server tells of it, and sends what is typed, voted and stopped.
"use strict";

const PATIENCE = 20000; // milliseconds for the server to answer
const SAID = { a: "A is better", b: "B is better", tie: "a tie", bad: "both bad" };
const KEYS = { a: "a", b: "b", t: "tie", x: "bad" };
const byId = (id) => document.getElementById(id);
const turns = byId("turns"), said = byId("said"), text = byId("text"), settings = byId("settings");
const votes = byId("votes"); // null where nobody votes
const root = document.documentElement;
let view = null; // what the server told last
let shown = 0; // the sheet that its turns are of
let voting = false;

function make(tag, name, content = "") {
  const one = document.createElement(tag);
  one.className = name;
  one.textContent = content;
  return one;
}

function put(where, content) {
  if (where.textContent !== content) where.textContent = content;
}

function tell(kind, what) {
  said.dataset.kind = kind;
  put(said, what);
}

const count = (of) => of.first + of.turns.length; // of turns

// Telling the server.

async function post(what, fields = {}) {
  try {
    const answer = await fetch(what, {
      method: "POST",
      body: new URLSearchParams(fields),
      headers: { Accept: "application/json" },
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (answer.ok) return "";
    return (await answer.json()).error ?? "The server did not take it.";
  } catch {
    return "The server cannot be reached.";
  }
}

async function act(what, fields) {
  const wrong = await post(what, fields);
  if (wrong) tell("wrong", wrong);
  return !wrong;
}

async function send() {
  const message = text.value;
  if (!message.trim() || view?.busy !== false) return;
  text.value = "";
  if (!(await act("send", { text: message }))) text.value ||= message;
}

async function vote(word) {
  if (voting || !view?.votable) return;
  voting = true;
  const wrong = await post("vote", { turn: count(view), vote: word, comment: votes.elements.comment.value });
  voting = false;
  if (wrong) return tell("wrong", `Not kept. ${wrong} Vote again.`);
  votes.elements.comment.value = "";
  text.focus();
}

// Showing what it tells.

function names() {
  const own = view.names;
  if (!votes) return own;
  return ["A", "B"].map((letter, side) => (own ? `${letter}: ${own[side]}` : letter));
}

function turnMade() {
  const one = make("section", "turn"), answers = make("div", "answers");
  answers.setAttribute("aria-live", "polite");
  for (const _ of names()) {
    const card = make("article", "card"), head = document.createElement("header");
    head.append(make("h2", ""));
    card.append(head, make("pre", "said"), make("p", "hint"));
    answers.append(card);
  }
  const asked = make("div", "asked");
  asked.append(make("span", "unseen", "You: "), make("pre", ""));
  one.append(asked, answers, make("p", "verdict"));
  turns.append(one);
  return one;
}

function showTurn(turn, place, last) {
  const one = turns.children[place] ?? turnMade();
  put(one.querySelector(".asked pre"), turn.text);
  one.querySelector(".answers").setAttribute("aria-busy", String(last && view.busy));
  [...one.querySelectorAll(".card")].forEach((card, side) => {
    put(card.querySelector("pre"), turn.answers[side]);
    put(card.querySelector(".hint"), turn.notes[side].join("; "));
    card.classList.toggle("won", turn.vote === "ab"[side]);
  });
  put(one.querySelector(".verdict"), turn.vote ? `Your vote: ${SAID[turn.vote]}. It is kept.` : "");
}

function showNames() {
  for (const one of turns.querySelectorAll(".answers")) {
    names().forEach((name, side) => put(one.children[side].querySelector("h2"), name));
  }
}

function show(told) {
  const before = view;
  view = told;
  const low = root.scrollHeight - innerHeight - scrollY < 80; // the newest is being read
  if (view.sheet !== shown) turns.replaceChildren();
  shown = view.sheet;
  view.turns.forEach((turn, i) => showTurn(turn, view.first + i, i === view.turns.length - 1));
  while (turns.children.length > count(view)) turns.lastChild.remove();
  showNames();
  byId("empty").hidden = count(view) > 0;
  showForms(before);
  if (low && (view.busy || before?.busy)) scrollTo(0, root.scrollHeight);
}

function showForms(before) {
  byId("send").hidden = view.busy;
  byId("stop").hidden = !view.busy;
  byId("save").hidden = !view.savable;
  byId("new").disabled = view.busy || !turns.children.length;
  if (view.failed && view.failed !== before?.failed) text.value ||= view.unsent;
  for (const name of ["system", "temperature"]) {
    const field = settings.elements[name], now = String(view[name]);
    if (before === null || (now !== String(before[name]) && field !== document.activeElement)) field.value = now;
  }
  if (votes) showVotes(before);
  if (view.stopping) tell("", "Stopping…");
  else if (view.busy) tell("", "Writing…");
  else if (view.failed) tell("wrong", view.failed);
  else if (view.votable) tell("", "Both have answered: which is better?");
  else if (before && (before.busy || count(before) < count(view))) tell("", votes && !view.names ? "A stopped answer is not voted on." : "Answered.");
  else if (before && view.votes > before.votes) tell("saved", "Kept. A new chat can be voted on again.");
  else if (before && view.votes < before.votes) tell("", "The vote is taken back.");
  else if (before === null || said.dataset.kind === "waiting") tell("", "");
}

function showVotes(before) {
  votes.hidden = !view.votable;
  byId("undo").hidden = !view.undoable || view.busy;
  put(byId("kept"), view.votes === 1 ? "1 vote kept" : `${view.votes} votes kept`);
  const idle = document.activeElement === text || document.activeElement === document.body;
  if (view.votable && before && !before.votable && idle && !text.value) byId("which").focus({ preventScroll: true });
}

const events = new EventSource("events");
events.onmessage = (event) => show(JSON.parse(event.data));
events.onerror = () => {
  const over = events.readyState === EventSource.CLOSED;
  tell("waiting", over ? "This chat has ended. Start it again, and open the address that it tells."
    : "The server cannot be reached. What was voted is kept. Trying again…");
};

// What is typed and pressed.

byId("compose").addEventListener("submit", (event) => { event.preventDefault(); send(); });
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.altKey || event.isComposing) return;
  event.preventDefault();
  send();
});
byId("stop").addEventListener("click", () => act("stop"));
byId("new").addEventListener("click", async () => { if (await act("new")) text.focus(); });
byId("undo")?.addEventListener("click", () => act("undo"));
settings.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { system, temperature } = settings.elements;
  if (await act("set", { system: system.value, temperature: temperature.value })) tell("saved", "Set, from the next answer on.");
});
votes?.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.value) vote(event.submitter.value);
});

votes?.elements.comment.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing) return;
  event.preventDefault(); // it would press the first button
  byId("which").focus();
});

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.repeat || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape" && view?.busy) return void act("stop");
  if (event.target.closest("input, textarea") || !votes || !root.classList.contains("with-keys")) return;
  const word = KEYS[event.key.toLowerCase()];
  if (word && view?.votable) { event.preventDefault(); vote(word); }
});

const byKey = byId("by-key");
if (byKey) {
  byKey.checked = root.classList.contains("with-keys");
  byKey.addEventListener("change", () => {
    root.classList.toggle("with-keys", byKey.checked);
    try { localStorage.setItem("cameleer-keys", byKey.checked ? "on" : "off"); } catch { /* for this page */ }
  });
}
