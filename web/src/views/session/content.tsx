// Parts of messages and results: text, thinking, and content that is kept beside the log.
import { useEffect, useState } from "react";

import { problem } from "../../api/problem";
import { streams } from "../../api/transport";
import type { Block, ContentRef } from "../../gen/baton/v1/common_pb";
import { bytes } from "../../text/format";
import { Markdown } from "../../text/markdown";
import { Button } from "../../ui/bits";

/** More is not loaded into the page. */
const TEXT_MAX = 4 * 1024 * 1024;
const IMAGE_MAX = 20 * 1024 * 1024;
const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];

async function read(sessionId: string, content: ContentRef, most: number, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const piece of streams.getContent({ sessionId, sha256: content.sha256 }, { signal })) {
    parts.push(piece.data);
    size += piece.data.length;
    if (size >= most) break;
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function ContentView({ sessionId, content }: { sessionId: string; content: ContentRef }) {
  if (IMAGES.includes(content.mediaType)) return <Picture sessionId={sessionId} content={content} />;
  return <LongText sessionId={sessionId} content={content} />;
}

function Picture({ sessionId, content }: { sessionId: string; content: ContentRef }) {
  const [address, setAddress] = useState<string>();
  const [failure, setFailure] = useState("");
  const tooLarge = Number(content.sizeBytes) > IMAGE_MAX;
  useEffect(() => {
    if (tooLarge) return;
    const abort = new AbortController();
    let made: string | undefined;
    read(sessionId, content, IMAGE_MAX, abort.signal).then(
      (data) => {
        made = URL.createObjectURL(new Blob([data], { type: content.mediaType }));
        if (abort.signal.aborted) URL.revokeObjectURL(made);
        else setAddress(made);
      },
      (thrown: unknown) => {
        if (!abort.signal.aborted) setFailure(problem(thrown).message);
      },
    );
    return () => {
      abort.abort();
      if (made) URL.revokeObjectURL(made);
    };
  }, [sessionId, content, tooLarge]);
  const size = bytes(content.sizeBytes);
  if (tooLarge) return <p className="dim">A picture of {size}, too large to show here.</p>;
  if (failure) return <p className="dim">A picture of {size}: {failure}</p>;
  if (!address) return <p className="dim">Loading a picture of {size}…</p>;
  return <img className="picture" src={address} alt={`${content.mediaType}, ${size}`} />;
}

function LongText({ sessionId, content }: { sessionId: string; content: ContentRef }) {
  const [text, setText] = useState<string>();
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  const size = Number(content.sizeBytes);
  if (!content.mediaType.startsWith("text/") && content.head === "") {
    return <p className="dim">{content.mediaType || "Content"} of {bytes(size)}</p>;
  }
  const load = () => {
    setBusy(true);
    read(sessionId, content, TEXT_MAX, new AbortController().signal)
      .then(
        (data) => setText(new TextDecoder().decode(data)),
        (thrown: unknown) => setFailure(problem(thrown).message),
      )
      .finally(() => setBusy(false));
  };
  return (
    <div className="long-text">
      <pre tabIndex={0} role="group" aria-label="text">{text ?? content.head}</pre>
      {text === undefined && (
        <p className="long-text-cut">
          <span className="dim">{bytes(size)} in all; the beginning and the end are shown.</span>{" "}
          <Button small busy={busy} onClick={load}>Load {size > TEXT_MAX ? `the first ${bytes(TEXT_MAX)}` : "all of it"}</Button>
          {failure && <span role="alert"> {failure}</span>}
        </p>
      )}
      {text === undefined && content.tail !== "" && <pre tabIndex={0} role="group" aria-label="end of the text">{content.tail}</pre>}
    </div>
  );
}

/** Blocks of a message of the agent. */
export function Blocks({ sessionId, blocks, streaming }: { sessionId: string; blocks: readonly Block[]; streaming?: boolean }) {
  return blocks.map((block, at) => {
    switch (block.kind.case) {
      case "text":
        return <Markdown key={at} text={block.kind.value} />;
      case "thinking":
        return <Thinking key={at} text={block.kind.value} streaming={streaming ?? false} />;
      case "content":
        return <ContentView key={at} sessionId={sessionId} content={block.kind.value} />;
      default:
        return null;
    }
  });
}

export function Thinking({ text, streaming }: { text: string; streaming: boolean }) {
  const line = text.trim().split("\n").at(streaming ? -1 : 0) ?? "";
  return (
    <details className="thinking">
      <summary>
        <span>{streaming ? "Thinking" : "Thought"}</span> <span className="dim clip">{line}</span>
      </summary>
      <div className="thinking-text">{text}</div>
    </details>
  );
}
