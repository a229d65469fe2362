// Addresses: the page's own links change the view without a load, and the browser's buttons work.
import type { MouseEvent, ReactNode } from "react";

import { Cell, useCell } from "../store/cell";

export interface Place {
  /** The words of the path, without empty ones. */
  path: readonly string[];
  hash: string;
  query: URLSearchParams;
}

class Route extends Cell {
  place = read();
  constructor() {
    super();
    const again = () => {
      this.place = read();
      this.changed();
    };
    window.addEventListener("popstate", again);
    window.addEventListener("hashchange", again);
  }

  go(address: string, replace = false): void {
    if (replace) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
    this.place = read();
    this.changed();
  }
}

function read(): Place {
  const path = location.pathname.split("/").filter(Boolean);
  return { path, hash: location.hash.slice(1), query: new URLSearchParams(location.search) };
}

const route = new Route();

export function go(address: string, replace = false): void {
  route.go(address, replace);
}

export function usePlace(): Place {
  return useCell(route).place;
}

interface LinkProps {
  to: string;
  children: ReactNode;
  className?: string;
  current?: boolean;
  label?: string;
  title?: string;
  /** Whether the tab key stops here; -1 if other keys lead here. */
  tab?: 0 | -1;
}

export function Link({ to, children, className, current, label, title, tab }: LinkProps) {
  const follow = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(to);
  };
  return (
    <a href={to} className={className} aria-current={current ? "page" : undefined} aria-label={label} title={title} tabIndex={tab} onClick={follow}>
      {children}
    </a>
  );
}
