// A session of 100,000 events in a real browser: how soon it is there, that scrolling shows no holes, and that what
// the page holds is bounded. Times are printed and not asserted: what they follow from is.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Baton, openBrowser, shot, until, Visitor } from "./stage.mjs";

/** Lines that the session writes, an event each. */
const LINES = Number(process.env.BATON_TEST_EVENTS ?? 100_000);

let baton;
let browser;
let visitor;
let id;
let head;

before(async () => {
  baton = await Baton.start();
  browser = await openBrowser();
  visitor = await Visitor.open(browser, baton);
  await visitor.context.addInitScript(watchContent, [`line number ${LINES} of`]);
  await (await visitor.signIn()).close();
  const began = Date.now();
  id = await baton.cli("run", "--harness", "command", "--no-follow", "--cwd", baton.work, "--title", "long", "--", "sh", "-c", `seq -f 'line number %.0f of a long log' ${LINES}`);
  const record = async () => (await baton.json("ps", "-a")).find((session) => session.id === id);
  await until("the log is written", async () => (await record()).lifecycle === "ended", 300_000);
  head = (await record()).head_seq;
  assert.ok(head >= LINES, `${head} events`);
  console.log(`${head} events written in ${((Date.now() - began) / 1000).toFixed(1)} s`);
});

after(async () => {
  await browser?.close();
  await baton?.stop();
});

/** In the page: notes when the text is first in it, and which calls were sent and answered before. */
function watchContent([text]) {
  const seen = (globalThis.baton = { content: undefined, calls: [] });
  const plain = globalThis.fetch;
  globalThis.fetch = (input, init) => {
    const call = { name: String(input?.url ?? input).split("/").pop(), from: performance.now(), to: undefined };
    seen.calls.push(call);
    return plain(input, init).finally(() => (call.to = performance.now()));
  };
  const look = () => {
    const log = document.querySelector("[role=log]");
    if (seen.content !== undefined || !log?.textContent.includes(text)) return;
    seen.content = { at: performance.now(), calls: seen.calls.map((call) => ({ ...call })) };
  };
  const begin = () => new MutationObserver(look).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
  if (document.documentElement) begin();
  else document.addEventListener("readystatechange", begin, { once: true });
}

async function content(page) {
  await page.waitForFunction(() => globalThis.baton.content);
  return page.evaluate(() => globalThis.baton.content);
}

function middle(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/**
 * In the page: looks at every frame, when it is painted, whether the log can be seen. `empty`: a part of the viewport
 * has nothing at all. `waiting`: a part of it shows that it is being read.
 */
function watchFrames() {
  const box = document.querySelector("[role=log]");
  const seen = { frames: 0, empty: 0, waiting: 0, running: true };
  globalThis.frames_ = seen;
  const covers = (selector) => {
    const { top, bottom } = box.getBoundingClientRect();
    return [...box.querySelectorAll(selector)]
      .map((one) => one.getBoundingClientRect())
      .reduce((sum, place) => sum + Math.max(0, Math.min(place.bottom, bottom) - Math.max(place.top, top)), 0);
  };
  const channel = new MessageChannel();
  // After all that others do for the frame, and before anything moves again.
  channel.port1.addEventListener("message", () => {
    if (!seen.running) return;
    // The beginning and the end have a margin.
    const wanted = box.clientHeight - 60;
    const [read, unread] = [covers(".segment"), covers(".unloaded")];
    seen.frames += 1;
    if (read + unread < wanted) seen.empty += 1;
    else if (read < wanted) seen.waiting += 1;
  });
  channel.port1.start();
  const frame = () => {
    if (!seen.running) return;
    channel.port2.postMessage(0);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

async function frames(page) {
  return page.evaluate(() => {
    globalThis.frames_.running = false;
    return globalThis.frames_;
  });
}

/** Waits until the whole viewport is covered by what was read. */
async function covered(page) {
  await page.waitForFunction(() => {
    const box = document.querySelector("[role=log]");
    const { top, bottom } = box.getBoundingClientRect();
    const places = [...box.querySelectorAll(".segment")].map((one) => one.getBoundingClientRect());
    return places.reduce((sum, place) => sum + Math.max(0, Math.min(place.bottom, bottom) - Math.max(place.top, top)), 0) > bottom - top - 60;
  });
}

test("its end is shown after one round of calls and one page of events, without waiting for the stream", async () => {
  const cold = [];
  for (let at = 0; at < 5; at += 1) {
    const page = await visitor.context.newPage();
    // The stream is held back: what is shown first must not need it.
    let free;
    const held = new Promise((done) => (free = done));
    if (at === 0) {
      await page.route("**/baton.v1.EventService/Watch", async (route) => {
        await held;
        await route.continue();
      });
    }
    await page.goto(`${baton.url}/sessions/${id}`, { waitUntil: "commit" });
    const shown = await content(page);
    free();
    cold.push(shown.at);
    // Only what was answered before can have been needed.
    const calls = shown.calls.filter((call) => call.name !== "Watch" && call.to !== undefined);
    // A stream that is not held back may bring one of the answers sooner than the call for it.
    const needed = ["GetCaller", "GetSession", "ListEvents"];
    const names = calls.map((call) => call.name).sort();
    assert.deepEqual(names, at === 0 ? needed : needed.filter((name) => names.includes(name)));
    const [sent, answered] = [Math.max(...calls.map((call) => call.from)), Math.min(...calls.map((call) => call.to))];
    assert.ok(sent < answered, `one call waited for another: ${JSON.stringify(calls)}`);
    await page.locator(".connection[data-phase=live]").waitFor();
    await page.close();
  }
  // Within a console that is loaded already.
  const page = await visitor.page("/sessions");
  const inside = [];
  for (let at = 0; at < 5; at += 1) {
    const line = page.locator(".session-line").first();
    await line.waitFor();
    const took = await line.evaluate(
      (element) =>
        new Promise((done) => {
          globalThis.baton.content = undefined;
          const from = performance.now();
          element.click();
          const look = () => (globalThis.baton.content ? done(globalThis.baton.content.at - from) : requestAnimationFrame(look));
          look();
        }),
    );
    inside.push(took);
    await page.goto(`${baton.url}/sessions`);
  }
  await page.close();
  console.log(`first content of ${head} events: ${Math.round(middle(cold))} ms from a cold load of the whole page (${cold.map(Math.round).join(", ")}), ${Math.round(middle(inside))} ms within the console (${inside.map(Math.round).join(", ")}); wanted: 500 ms`);
});

test("it scrolls without holes, by wheel and in great leaps, and what the page holds is bounded", async () => {
  const page = await visitor.page(`/sessions/${id}`);
  await content(page);
  const session = await visitor.context.newCDPSession(page);
  const heap = async () => {
    await page.evaluate(() => globalThis.gc?.());
    return (await session.send("Runtime.getHeapUsage")).usedSize / 1e6;
  };
  const box = page.getByRole("log", { name: "Transcript" });
  await covered(page);
  const before = await heap();

  // The wheel, as a hand turns it: up through what is not read yet, and down again over what is.
  const turn = async (by) => {
    await page.evaluate(watchFrames);
    for (let at = 0; at < 120; at += 1) {
      await page.mouse.wheel(0, by);
      await page.waitForTimeout(16);
    }
    await covered(page);
    return frames(page);
  };
  await box.hover();
  const up = await turn(-150);
  const down = await turn(150);
  const again = await turn(-150);

  // Page by page.
  await box.focus();
  await page.evaluate(watchFrames);
  for (let at = 0; at < 40; at += 1) {
    await page.keyboard.press("PageUp");
    await page.waitForTimeout(60);
  }
  await covered(page);
  const keys = await frames(page);

  // Leaps, as the scroll bar is dragged: what is there is not known, so it may be empty for a moment, not for long.
  const leaps = [];
  for (const part of [0, 0.5, 0.1, 0.9, 0.25, 0.75, 1, 0.33, 0.66, 0]) {
    const from = Date.now();
    await box.evaluate((element, to) => (element.scrollTop = element.scrollHeight * to), part);
    await covered(page);
    leaps.push(Date.now() - from);
    // And it stays: nothing trembles away from what was come to.
    await page.evaluate(watchFrames);
    await page.waitForTimeout(100);
    const rest = await frames(page);
    assert.deepEqual([rest.empty, rest.waiting], [0, 0], `a hole after the leap to ${part}`);
  }

  // The whole length in strides, and back to its end.
  for (let at = 0; at <= 40; at += 1) {
    await box.evaluate((element, part) => (element.scrollTop = element.scrollHeight * part), at / 40);
    await page.waitForTimeout(30);
  }
  await covered(page);
  const afterwards = await heap();
  const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
  const words = ({ frames: all, empty, waiting }) => `${empty} empty and ${waiting} waiting of ${all} frames`;
  console.log(`wheel up ${words(up)}, down ${words(down)}, up again ${words(again)}; page keys ${words(keys)}; leaps covered after ${leaps.join(", ")} ms; heap ${before.toFixed(1)} MB and then ${afterwards.toFixed(1)} MB, ${nodes} elements`);
  for (const seen of [up, down, again, keys]) {
    assert.ok(seen.frames > 20, "frames were looked at");
    assert.equal(seen.empty, 0, "a part of the viewport had nothing in it");
  }
  // What was read is there when one comes back.
  assert.deepEqual([down.waiting, again.waiting], [0, 0]);
  assert.ok(nodes < 6_000, `${nodes} elements`);
  assert.ok(afterwards < 80, `${afterwards} MB`);
  await page.close();
});

test("a link to an event in its middle opens there", async () => {
  const seq = Math.floor(head / 2);
  const page = await visitor.page(`/sessions/${id}#${seq}`);
  await page.locator(".row.target").waitFor();
  await covered(page);
  const row = page.locator(`.row.target[data-seq="${seq}"]`);
  await row.waitFor();
  assert.ok(await row.evaluate((element) => element.getBoundingClientRect().bottom > 0 && element.getBoundingClientRect().top < innerHeight), "the event of the link is in view");
  await shot(page, "long-1280-light");
  await page.close();
});

/** A program that says RATE numbered lines a second, by the clock, for SECONDS. */
const TALKER = `
  const [rate, seconds] = process.argv.slice(1).map(Number);
  const began = performance.now();
  let said = 0;
  const timer = setInterval(() => {
    for (const due = Math.min(rate * seconds, ((performance.now() - began) * rate) / 1000); said < due; ) console.log("spoken line " + ++said + " of a session that does not pause");
    if (said >= rate * seconds) clearInterval(timer);
  }, 5);`;

/** In the page: how many frames are made within so many seconds, and which tasks hold them up. */
function countFrames(seconds) {
  return new Promise((done) => {
    const tasks = [];
    const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration)));
    observer.observe({ type: "longtask" });
    const began = performance.now();
    let count = 0;
    const frame = () => {
      const took = performance.now() - began;
      if (took < seconds * 1000) {
        count += 1;
        requestAnimationFrame(frame);
        return;
      }
      observer.disconnect();
      done({ perSecond: (count * 1000) / took, longest: Math.max(0, ...tasks), long: tasks.length });
    };
    requestAnimationFrame(frame);
  });
}

test("a session that says 200 lines a second is followed", async () => {
  const [rate, seconds] = [200, 20];
  const blank = await visitor.context.newPage();
  const plain = await blank.evaluate(countFrames, 5);
  await blank.close();
  const talk = await baton.cli("run", "--harness", "command", "--no-follow", "--cwd", baton.work, "--title", "talk", "--", process.execPath, "-e", TALKER, "--", String(rate), String(seconds));
  const page = await visitor.page(`/sessions/${talk}`);
  const box = page.getByRole("log", { name: "Transcript" });
  await page.waitForFunction(() => document.querySelector("[role=log]")?.textContent.includes("spoken line"));
  const seen = await page.evaluate(countFrames, 10);
  // It stays at the end, and the end is that of the log.
  const last = `spoken line ${rate * seconds} of`;
  await page.waitForFunction((text) => document.querySelector("[role=log]").textContent.includes(text), last);
  await box.evaluate((element) => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(element)))));
  assert.ok(await box.evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight < 60), "the view is at the end");
  const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
  assert.ok(nodes < 6_000, `${nodes} elements`);
  console.log(`${rate} events a second: ${seen.perSecond.toFixed(1)} frames a second (a blank page ${plain.perSecond.toFixed(1)}), ${seen.long} tasks over 50 ms, the longest ${Math.round(seen.longest)} ms; ${nodes} elements; wanted: 55`);
  await page.close();
});

test("nothing was complained about", () => {
  assert.deepEqual(visitor.foreign, []);
  assert.deepEqual(visitor.unexpected(), []);
});
