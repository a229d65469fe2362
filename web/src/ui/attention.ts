// What waits for a person, where it is seen without looking at the page: tab title, favicon, notification.
import { PromptState } from "../gen/baton/v1/prompt_pb";
import { notificationsOn, records } from "../store/world";
import { go } from "./route";

/** The icon, with a number when something waits. */
function icon(waiting: number): string {
  const text = waiting > 9 ? "9+" : String(waiting);
  const badge =
    waiting === 0
      ? ""
      : `<circle cx="22" cy="10" r="10" fill="#c2410c"/><text x="22" y="14.5" font-family="sans-serif" font-size="${waiting > 9 ? 11 : 14}" font-weight="700" text-anchor="middle" fill="#fff">${text}</text>`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M7 25 25 7" stroke="#0f766e" stroke-width="6" stroke-linecap="round"/>${badge}</svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

let view = "Baton";
let shown = "";

function show(): void {
  const waiting = records.pending().length;
  document.title = waiting > 0 ? `(${waiting}) ${view}` : view;
  const next = icon(waiting);
  if (next === shown) return;
  shown = next;
  document.querySelector("#favicon")?.setAttribute("href", next);
}

/** Says which view is open. */
export function setTitle(name: string): void {
  view = name === "" ? "Baton" : `${name} · Baton`;
  show();
}

export function beginAttention(): void {
  const told = new Set<string>();
  let first = true;
  records.subscribe(() => {
    show();
    const pending = records.pending();
    for (const prompt of pending) {
      if (told.has(prompt.id)) continue;
      told.add(prompt.id);
      // What waited before the page was opened is no news.
      if (first || !notificationsOn() || (document.visibilityState === "visible" && document.hasFocus())) continue;
      const session = records.sessions.get(prompt.sessionId);
      const notification = new Notification(session?.title ?? "An agent asks", { body: prompt.summary, tag: prompt.id });
      notification.addEventListener("click", () => {
        window.focus();
        go(`/sessions/${prompt.sessionId}`);
        notification.close();
      });
    }
    for (const id of told) if (records.prompts.get(id)?.state !== PromptState.PENDING) told.delete(id);
    if (records.complete) first = false;
  });
  show();
}
