// Line icons, drawn for this console on a grid of 16.
const PATHS = {
  sessions: "M2.5 4h11M2.5 8h11M2.5 12h7",
  prompts: "M2.5 3.5h11v7h-6l-3 2.5v-2.5h-2z",
  agents: "M8 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM3 13.5c0-2.6 2.2-4 5-4s5 1.4 5 4",
  tasks: "M2.5 3h3.2v10H2.5zM6.9 3h3.2v6.5H6.900zM11.300 3h2.2v8.5h-2.200z",
  worktrees: "M4.5 5.5v5M4.5 5.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM4.5 13.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM11.5 7a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zM11.5 7c0 2.5-3 2.5-5.5 3",
  budgets: "M8 13.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM9.800 6.200c-.3-.7-1-1-1.800-1-1 0-1.700.5-1.700 1.300 0 1.900 3.600 1 3.600 3 0 .8-.8 1.300-1.900 1.300-.9 0-1.600-.4-1.900-1.100M8 4.200v1M8 10.800v1",
  move: "M2.5 8h11M10.5 5l3 3-3 3M5.5 5l-3 3 3 3",
  machines: "M2.5 3h11v7h-11zM6 13h4M8 10v3",
  access: "M9.5 6.5a3 3 0 1 1-2.6-3M7.7 8.4l-5.2 5.1M4 12l1.5 1.5",
  settings: "M2.5 5h6m3 0h2M2.5 11h2m3 0h6M10 3.5v3M6 9.5v3",
  plus: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  check: "M3 8.5l3.2 3L13 4.5",
  copy: "M5.5 5.5h7v7h-7zM10.5 5.5v-2h-7v7h2",
  send: "M3 8h9M8.5 4l4 4-4 4",
  stop: "M4.5 4.5h7v7h-7z",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  search: "M7 11.5a4.5 4.5 0 1 1 0-9 4.5 4.5 0 0 1 0 9zM10.5 10.5l3 3",
  up: "M8 12.5v-9M4 7l4-3.5L12 7",
  down: "M8 3.5v9M4 9l4 3.5L12 9",
  edit: "M3 13l.7-3L11 2.8l2.2 2.2L6 12.3z",
  folder: "M2.5 4h4l1.5 1.5h5.5v7h-11z",
  repo: "M4 3h8v10H4zM4 10.5h8M6.5 5.5h3",
  chevron: "M6 4l4 4-4 4",
  back: "M10 4L6 8l4 4",
  link: "M7 9a2.5 2.5 0 0 0 3.5 0l2-2A2.5 2.5 0 0 0 9 3.5l-.7.7M9 7a2.5 2.5 0 0 0-3.5 0l-2 2A2.5 2.5 0 0 0 7 12.5l.7-.7",
  offline: "M2.5 2.5l11 11M4.5 7.5A5 5 0 0 1 7 6.200M2.5 5.5A8 8 0 0 1 5 4M13.5 5.5A8 8 0 0 0 8 3.5M8 12h.01",
  terminal: "M2.5 3h11v10h-11zM4.800 6l2 2-2 2M8.500 10.500h3",
  code: "M5.5 5L2.5 8l3 3M10.5 5l3 3-3 3",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}
