// Sign-in links.

/** The code of a sign-in link: in the fragment, which no request carries. */
export function codeOf(text: string): string | undefined {
  const fragment = /#(?:.*&)?code=([A-Za-z0-9._~-]+)/.exec(text)?.[1];
  return fragment ?? (/^[A-Za-z0-9._~-]{8,}$/.test(text.trim()) ? text.trim() : undefined);
}
