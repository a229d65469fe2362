import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { EventSchema, MessageDeltaSchema } from "../src/gen/baton/v1/event_pb";
import { LiveText, MISSING } from "../src/store/live";

function delta(offset: number, text: string, block = 0, thinking = false) {
  return create(MessageDeltaSchema, { messageId: "m", block, offset: BigInt(offset), text, thinking });
}

test("pieces are joined by their offset in bytes", () => {
  const live = new LiveText();
  live.take(delta(0, "größe "));
  live.take(delta(8, "ist"));
  expect(live.all().map((block) => block.text)).toEqual(["größe ist"]);
  // Sent again from the middle, and from the start.
  live.take(delta(8, "ist alles"));
  expect(live.all()[0]?.text).toBe("größe ist alles");
  live.take(delta(0, "neu"));
  expect(live.all()[0]?.text).toBe("neu");
});

test("what was dropped on the way is seen to be missing", () => {
  const live = new LiveText();
  live.take(delta(0, "one "));
  live.take(delta(10, "three"));
  expect(live.all()[0]?.text).toBe(`one ${MISSING}three`);
});

test("the finished message takes the place of its own text and of nothing else", () => {
  const live = new LiveText();
  live.take(delta(0, "hm", 0, true));
  live.take(delta(0, "so", 1));
  const thought = create(EventSchema, {
    seq: 1n,
    body: { case: "message", value: { messageId: "m", blocks: [{ kind: { case: "thinking", value: "hm" } }] } },
  });
  expect(live.settle(thought)).toBe(true);
  expect(live.all().map((block) => block.text)).toEqual(["so"]);
  const other = create(EventSchema, {
    seq: 2n,
    body: { case: "message", value: { messageId: "n", blocks: [{ kind: { case: "text", value: "so" } }] } },
  });
  expect(live.settle(other)).toBe(false);
  const said = create(EventSchema, {
    seq: 3n,
    body: { case: "message", value: { messageId: "m", blocks: [{ kind: { case: "text", value: "so" } }] } },
  });
  live.settle(said);
  expect(live.all()).toEqual([]);
});

test("a part that never was live takes nothing of the next with it", () => {
  const said = (seq: bigint, text: string) =>
    create(EventSchema, {
      seq,
      body: { case: "message", value: { messageId: "m", blocks: [{ kind: { case: "text", value: text } }] } },
    });
  const live = new LiveText();
  live.take(delta(0, "two ", 1));
  expect(live.settle(said(1n, "one"))).toBe(false);
  live.take(delta(20, "four", 1));
  expect(live.all()[0]?.text).toBe(`two ${MISSING}four`);
  expect(live.settle(said(2n, "two three, and four more"))).toBe(true);
  expect(live.all()).toEqual([]);
});

test("a long part that is kept beside the log is known by its first characters", () => {
  const live = new LiveText();
  live.take(delta(0, "a long text"));
  const kept = create(EventSchema, {
    seq: 1n,
    body: { case: "message", value: { messageId: "m", blocks: [{ kind: { case: "content", value: { head: "a long" } } }] } },
  });
  expect(live.settle(kept)).toBe(true);
});
