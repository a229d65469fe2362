// Answers in words.
import { type PromptAnswer, Remember } from "../../gen/baton/v1/prompt_pb";
import { ActorKind } from "../../gen/baton/v1/common_pb";
import { who } from "../../text/format";

export function answerWords(answer: PromptAnswer): string {
  const { decision } = answer;
  const by = who(answer.by);
  // What answers by itself is a rule, or the session's permission mode.
  const own = by.startsWith("permission mode") ? `by the ${by}` : `by the rule ${by}`;
  const name = answer.by?.kind === ActorKind.RULE ? own : `by ${by || "somebody"}`;
  if (!decision) {
    const said = answer.answers.map((one) => [...one.labels, one.text].filter(Boolean).join(", ")).join(" / ");
    return `answered ${name}: ${said}`;
  }
  const how = decision.allow ? "allowed" : "denied";
  const remembered = decision.remember === Remember.SESSION ? ", for this session" : decision.remember === Remember.RULE ? ", and a rule was made" : "";
  const changed = decision.updatedInput ? ", with a changed input" : "";
  const message = decision.message ? `: ${decision.message}` : "";
  return `${how} ${name}${remembered}${changed}${message}`;
}
