// Who is signed in in this browser. The secret is an HttpOnly cookie that no script sees.
import { Code } from "@connectrpc/connect";

import { problem } from "../api/problem";
import { access } from "../api/transport";
import { type Token, TokenScope } from "../gen/baton/v1/access_pb";
import { Cell } from "./cell";
import { codeOf } from "./code";

export type AuthState =
  | { kind: "checking" }
  | { kind: "in"; caller: Token }
  | { kind: "out"; why: string }
  | { kind: "unreachable" };

export class Auth extends Cell {
  state: AuthState = { kind: "checking" };

  /** Uses the code in the address, if there is one, and finds out who is signed in. */
  async start(): Promise<void> {
    const code = codeOf(location.hash);
    if (location.hash.includes("code=")) history.replaceState(null, "", location.pathname + location.search);
    if (code !== undefined) {
      const refused = await this.exchange(code);
      if (refused !== undefined) {
        await this.check();
        if (this.state.kind === "out") this.say({ kind: "out", why: refused });
        return;
      }
    }
    await this.check();
  }

  /** Trades a one-time code for the cookie; gives why it was refused. */
  async exchange(code: string): Promise<string | undefined> {
    try {
      const answer = await fetch("/auth/exchange", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ code }),
      });
      if (answer.ok) return undefined;
      return answer.status === 429
        ? "Too many tries. Wait a minute."
        : "This link was used already, or it is too old. Ask for a fresh one.";
    } catch {
      return "The server cannot be reached.";
    }
  }

  /** Finds out who is signed in. Over gRPC-Web: a GET carries the cookie only on https and on this machine. */
  async check(): Promise<void> {
    try {
      const { token } = await access.getCaller({});
      if (token) this.say({ kind: "in", caller: token });
    } catch (thrown) {
      const { code } = problem(thrown);
      this.say(code === Code.Unauthenticated ? { kind: "out", why: "" } : { kind: "unreachable" });
    }
  }

  async signOut(): Promise<void> {
    await fetch("/auth/sign-out", { method: "POST" });
    this.say({ kind: "out", why: "You signed out." });
  }

  /** The server refused what this browser holds. */
  lost(): void {
    if (this.state.kind === "in") this.say({ kind: "out", why: "Your sign-in has ended." });
  }

  /** Whether the caller may change things. */
  get operator(): boolean {
    return this.scope === TokenScope.OPERATOR || this.admin;
  }

  get admin(): boolean {
    return this.scope === TokenScope.ADMIN;
  }

  private get scope(): TokenScope {
    return this.state.kind === "in" ? this.state.caller.scope : TokenScope.UNSPECIFIED;
  }

  private say(state: AuthState): void {
    this.state = state;
    this.changed();
  }
}
