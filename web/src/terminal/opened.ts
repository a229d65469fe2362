// Terminals that were opened from this tab and not yet looked at: what their programs asked at their start has had no
// other viewer to answer it.
const opened = new Set<string>();

export function justOpened(terminalId: string): void {
  opened.add(terminalId);
}

/** Whether it was opened here and this is the first look at it. */
export function isFirstLook(terminalId: string): boolean {
  return opened.delete(terminalId);
}
