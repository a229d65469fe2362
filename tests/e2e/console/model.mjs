// A stand-in for the model of the real Claude Code: to "say: WORD" in the newest message of a person it answers WORD
// in capitals, to all else "nothing".
import { createServer } from "node:http";

function answer(body) {
  const texts = (body.messages ?? [])
    .filter((message) => message.role === "user")
    .flatMap(({ content }) => (typeof content === "string" ? [content] : content.map((block) => block.text ?? "")));
  const words = texts.flatMap((text) => [...text.matchAll(/say: (\w+)/g)].map((found) => found[1]));
  return words.at(-1)?.toUpperCase() ?? "nothing";
}

export class Model {
  static async start() {
    const model = new Model();
    /** What it was asked, as JSON. */
    model.asked = [];
    model.server = createServer((request, response) => {
      let text = "";
      request.on("data", (data) => (text += data));
      request.on("end", () => model.#serve(request, response, text));
    });
    await new Promise((done) => model.server.listen(0, "127.0.0.1", done));
    model.url = `http://127.0.0.1:${model.server.address().port}`;
    return model;
  }

  #serve(request, response, text) {
    const path = new URL(request.url, "http://model").pathname;
    const json = (status, body) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (path === "/v1/messages/count_tokens") return json(200, { input_tokens: 10 });
    if (path !== "/v1/messages") return json(404, { type: "error", error: { type: "not_found_error", message: "the stub has no such path" } });
    this.asked.push(text);
    const body = JSON.parse(text);
    const said = answer(body);
    const usage = { input_tokens: 10, cache_creation_input_tokens: 0, cache_read_input_tokens: 0, output_tokens: 1 };
    const message = { id: `msg_stub${this.asked.length}`, type: "message", role: "assistant", model: body.model, content: [], stop_reason: null, stop_sequence: null, usage };
    if (!body.stream) return json(200, { ...message, content: [{ type: "text", text: said }], stop_reason: "end_turn" });
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const event of [
      { type: "message_start", message },
      { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
      { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: said } },
      { type: "content_block_stop", index: 0 },
      { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 1 } },
      { type: "message_stop" },
    ]) {
      response.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    }
    return response.end();
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
