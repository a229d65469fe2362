// What only an answer to a call tells is asked for again from time to time, as long as somebody looks.

/** Calls `read` every so many ms while the page is visible, and when it is seen again; until the answer is called. */
export function whileVisible(read: () => void, everyMs: number): () => void {
  const look = () => {
    if (document.visibilityState === "visible") read();
  };
  const timer = setInterval(look, everyMs);
  document.addEventListener("visibilitychange", look);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", look);
  };
}
