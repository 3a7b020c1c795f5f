"use strict";
const $ = id => document.getElementById(id);
const resets = Number(document.querySelector("main").dataset.resets);
async function refresh() {
  let seat;
  try {
    const answer = await fetch("/room/seat");
    if (answer.status === 403) { location.reload(); return; }
    seat = await answer.json();
  } catch { $("next").textContent = "The room does not answer; ask the trainer."; return; }
  $("name").textContent = seat.name ? ` · ${seat.name}` : "";
  $("notice").hidden = seat.resets === resets && !seat.order;
  $("notice").textContent = seat.order ? "The trainer moves you forward; your lab executes the steps before." :
    "The trainer has reset your seat: your account is empty. Run 00 again, which starts a new run, and continue with 01.";
  for (const item of document.querySelectorAll("#steps li")) {
    const name = item.dataset.step, state = seat.steps[name], answer = seat.answers[name];
    item.className = seat.at === name ? "here" : "";
    item.querySelector("i").textContent = [state === "finished" ? "✓ done" : seat.at === name ? "▸ next" : state ? "started" : "",
      answer ? (answer.right ? "right answer" : "wrong answer") : ""].filter(Boolean).join(" · ");
  }
  const here = document.querySelector("#steps li.here");
  $("next").textContent = here ? `Next: ${here.querySelector("b").textContent} ${here.querySelector("span").textContent}` :
    seat.run ? "The steps of the chain are done." : "Nothing has begun yet: take your seat as below, and open 00 in your lab.";
}
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 2000);
