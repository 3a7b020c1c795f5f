"use strict";
// Every value of a learner is written with textContent: nothing that they typed becomes markup.
const $ = id => document.getElementById(id);
const steps = [...document.querySelectorAll("#seats th.step")].map(th => ({name: th.dataset.step, words: th.title, number: th.textContent}));
const body = document.querySelector("#seats tbody");
let chosen = null, seats = [];

function put(parent, tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  parent.append(node);
  return node;
}
function span(seconds) {
  if (seconds === null) return "–";
  if (seconds < 60) return `${seconds} s`;
  return seconds < 5400 ? `${Math.floor(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
const words = name => { const step = steps.find(one => one.name === name); return step ? `${step.number} ${step.words}` : ""; };
const counted = (all, test) => { const found = Object.values(all); return found.length ? `${found.filter(test).length}/${found.length}` : "–"; };

const used = task => `task ${task.done ? "done" : "open"}${task.hints ? ` · ${task.hints} hint${task.hints > 1 ? "s" : ""}` : ""}`;

function mark(cell, seat, name) {
  const state = seat.steps[name], answer = seat.answers[name];
  if (state === "finished") put(cell, "span", "✓", "mark done");
  else if (seat.at === name) put(cell, "span", "▸", "mark now");
  else if (state) put(cell, "span", "◐", "mark started");
  if (answer) put(cell, "sup", answer.right ? "+" : "−", answer.right ? "done" : "wrong");
  cell.setAttribute("aria-label", `${words(name)}: ${state || (seat.at === name ? "now" : "not begun")}${answer ? (answer.right ? ", right answer" : ", wrong answer") : ""}`);
}
function row(seat) {
  const tr = document.createElement("tr");
  tr.dataset.seat = seat.seat;
  if (seat.seat === chosen) tr.className = "chosen";
  const who = put(put(tr, "td"), "button", undefined, `who${seat.online ? "" : " away"}`);
  put(who, "b", String(seat.seat));
  put(who, "span", seat.name || (seat.run || seat.online ? "no name" : "empty"));
  for (const step of steps) mark(put(tr, "td", undefined, "step"), seat, step.name);
  const at = !seat.here_for && !seat.run ? "" : seat.order ? `→ ${words(seat.order)} …` : words(seat.at) || (seat.run ? "all done" : "");
  put(tr, "td", at);
  const minutes = seat.at && seat.here_for !== null ? seat.here_for / 60 : 0;
  put(tr, "td", seat.run ? span(seat.here_for) : "–", `figure ${minutes >= 20 ? "stuck" : minutes >= 10 ? "slow" : ""}`);
  put(tr, "td", span(seat.last_call), "figure");
  put(tr, "td", counted(seat.answers, one => one.right), "figure");
  put(tr, "td", counted(seat.tasks, one => one.done), "figure");
  put(tr, "td", String(Object.values(seat.tasks).reduce((sum, one) => sum + one.hints, 0) || "–"), "figure");
  tr.addEventListener("click", () => { chosen = seat.seat; draw(); });
  return tr;
}
function details(seat) {
  $("details").hidden = !seat;
  $("chosen").textContent = seat ? `Seat ${seat.seat}${seat.name ? ` · ${seat.name}` : ""}` : "Choose a seat";
  if (!seat) return;
  const lab = seat.online ? "lab is open" : "lab is closed";
  $("seat-state").textContent = [lab, seat.run && `run ${seat.run}`, seat.resets && `reset ${seat.resets} times`, seat.outcome].filter(Boolean).join(" · ");
  const table = document.querySelector("#answers tbody");
  table.replaceChildren();
  for (const step of steps) {
    const answer = seat.answers[step.name], task = seat.tasks[step.name];
    if (!answer && !task) continue;
    const tr = put(table, "tr");
    put(tr, "td", words(step.name));
    put(tr, "td", answer ? `${answer.answer} ${answer.right ? "right" : "wrong"}` : "", answer && !answer.right ? "wrong" : "");
    put(tr, "td", task ? used(task) : "");
  }
  for (const [name, task] of Object.entries(seat.tasks)) {
    if (steps.some(step => step.name === name)) continue;
    const tr = put(table, "tr");
    put(tr, "td", name); put(tr, "td", "");
    put(tr, "td", used(task));
  }
}
function draw() {
  const held = document.activeElement?.closest?.("tr")?.dataset.seat;
  body.replaceChildren(...seats.map(row));
  if (held) body.querySelector(`tr[data-seat="${held}"] button`)?.focus();
  details(seats.find(one => one.seat === chosen));
}
function say(text, problem) { $("said").textContent = text; $("said").className = problem ? "problem" : ""; }

async function refresh() {
  try {
    const answer = await fetch("/room/state");
    if (answer.status === 403) { location.reload(); return; }
    const state = await answer.json();
    seats = state.seats;
    if ($("where").options.length !== seats.length + 1)
      for (const seat of seats) { const option = put($("where"), "option", `seat ${seat.seat}`); option.value = seat.seat; }
    const here = seats.filter(one => one.online).length, stuck = seats.filter(one => one.at && one.here_for >= 1200).length;
    $("summary").textContent = `${here} of ${seats.length} seats here${stuck ? ` · ${stuck} at one step for 20 minutes` : ""}`;
    $("clock").textContent = state.now.replace("T", " ").slice(0, 19) + " UTC";
    $("faults").textContent = state.faults.map(one => `${one.kind}: ${one.operation}, ${one.count} calls${one.account ? `, seat ${Number(one.account.slice(-4))}` : ""}`).join("; ") || "No fault is waiting.";
    draw();
  } catch { $("summary").textContent = "The room does not answer; is it still running?"; }
}
async function act(command) {
  try {
    const answer = await fetch("/room/do", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(command)});
    const found = await answer.json();
    say(found.said || found.error, !found.said);
  } catch (error) { say(`Nothing is known to be done: ${error}`, true); }
  refresh();
}
function confirmed(question, verb, then) {
  $("question").textContent = question; $("yes").textContent = verb;
  $("confirm").returnValue = "no";
  $("confirm").onclose = () => { if ($("confirm").returnValue === "yes") then(); };
  $("confirm").showModal();
}
for (const button of document.querySelectorAll("[data-advance]"))
  button.addEventListener("click", () => confirmed(`Advance the clock of all seats by ${button.textContent.slice(2)}? Import tokens and key material may expire.`, "Advance", () => act({do: "clock", body: {advance_seconds: Number(button.dataset.advance)}})));
for (const button of document.querySelectorAll("[data-pace]"))
  button.addEventListener("click", () => act({do: "pace", body: button.dataset.pace === "0" ? {mode: "immediate"} : {mode: "seconds", seconds: Number(button.dataset.pace)}}));
$("real").addEventListener("click", () => confirmed("Set the clock of all seats back to the real time?", "Set back", () => act({do: "clock", body: {reset: true}})));
$("fault").addEventListener("click", () => {
  const seat = $("where").value;
  act({do: "fault", body: {operation: $("operation").value, kind: $("kind").value, count: Number($("count").value), seconds: $("kind").value === "latency" ? 5 : 0, account: seat ? String(200000000000 + Number(seat)) : null}});
});
$("clear").addEventListener("click", () => act({do: "clear_faults"}));
$("reset").addEventListener("click", () => { const seat = chosen; confirmed(`Reset seat ${seat}? Everything in its account is deleted: keys, key material, clusters.`, `Reset seat ${seat}`, () => act({do: "reset", seat})); });
$("forward").addEventListener("click", () => { const seat = chosen, step = $("to").value; confirmed(`Move seat ${seat} to ${words(step)}? Its lab executes the steps before it with the learner's own values.`, "Move", () => act({do: "forward", seat, step})); });
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 2000);
