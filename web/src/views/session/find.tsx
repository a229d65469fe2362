// Finding in a transcript: the server searches all of it, and each hit is a place to jump to.
import { useEffect, useRef, useState } from "react";

import { problem } from "../../api/problem";
import { events } from "../../api/transport";
import type { SearchHit } from "../../gen/baton/v1/event_pb";
import { Button } from "../../ui/bits";
import { Snippet } from "../snippet";

export function Find({ sessionId, jump, close }: { sessionId: string; jump: (seq: number) => void; close: () => void }) {
  const [query, setQuery] = useState("");
  const [hits, setHits] = useState<SearchHit[]>();
  const [at, setAt] = useState(-1);
  const [failure, setFailure] = useState("");
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  useEffect(() => {
    const words = query.trim();
    if (words === "") return;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      // The last word is still being written.
      const open = /[\p{L}\p{N}]$/u.test(words) && !words.includes('"') ? `${words}*` : words;
      events.searchEvents({ query: open, sessionId, pageSize: 200 }, { signal: abort.signal }).then(
        (answer) => {
          setHits([...answer.hits].sort((a, b) => Number(a.seq - b.seq)));
          setAt(-1);
          setFailure("");
        },
        (thrown: unknown) => {
          if (!abort.signal.aborted) setFailure(problem(thrown).message);
        },
      );
    }, 200);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [query, sessionId]);
  const found = query.trim() === "" ? undefined : hits;
  const to = (next: number) => {
    const all = found ?? [];
    if (all.length === 0) return;
    const index = (next + all.length) % all.length;
    setAt(index);
    const hit = all[index];
    if (hit) jump(Number(hit.seq));
  };
  const hit = found?.[at];
  return (
    <div className="find" role="search">
      <input
        ref={input}
        type="search"
        aria-label="Find in this session"
        placeholder="Find in this session"
        value={query}
        onChange={(event) => setQuery(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") close();
          if (event.key === "Enter") to(event.shiftKey ? at - 1 : at < 0 ? (found?.length ?? 1) - 1 : at + 1);
        }}
      />
      <span className="dim find-count" role="status">
        {failure || (found ? (found.length === 0 ? "nothing" : at < 0 ? `${found.length}${found.length === 200 ? "+" : ""}` : `${at + 1} of ${found.length}`) : "")}
      </span>
      <Button small kind="quiet" icon="up" label="Earlier hit" disabled={!found?.length} onClick={() => to(at < 0 ? (found?.length ?? 1) - 1 : at - 1)} />
      <Button small kind="quiet" icon="down" label="Later hit" disabled={!found?.length} onClick={() => to(at + 1)} />
      <Button small kind="quiet" icon="close" label="Close find" onClick={close} />
      {hit && <p className="find-snippet clip"><Snippet text={hit.snippet} /></p>}
    </div>
  );
}
