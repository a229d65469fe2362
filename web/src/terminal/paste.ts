// What is done to a text before it is pasted: it must not type more than what is seen.

/** The text without what no keyboard types by itself: escape sequences (which could end a bracketed paste) and their kin. */
export function harmless(text: string): string {
  // eslint-disable-next-line no-control-regex -- these are what is taken out
  return text.replace(/\r\n?/g, "\n").replace(/[\u0000-\u0008\u000B-\u001F\u007F-\u009F]/g, "");
}

/** Whether a program that does not tell a paste from typing would run a part of it before a person has seen the whole. */
export function asksFirst(text: string, bracketed: boolean): boolean {
  return !bracketed && text.includes("\n");
}
