// Markdown as elements: the tokens become elements one by one, and HTML in it stays text.
import { lexer, type Token, type Tokens } from "marked";
import { memo, type ReactNode, useMemo } from "react";

import { Code } from "./code";

const SAFE = /^(https?:|mailto:)/i;

function decode(text: string): string {
  return text.replace(/&(amp|lt|gt|quot|#39);/g, (all, name: string) => ENTITIES[name] ?? all);
}
const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'" };

function inline(tokens: Token[] | undefined): ReactNode {
  return tokens?.map((token, at) => <Inline key={at} token={token} />);
}

function Inline({ token }: { token: Token }): ReactNode {
  switch (token.type) {
    case "strong":
      return <strong>{inline(token.tokens)}</strong>;
    case "em":
      return <em>{inline(token.tokens)}</em>;
    case "del":
      return <del>{inline(token.tokens)}</del>;
    case "codespan":
      return <code>{decode((token as Tokens.Codespan).text)}</code>;
    case "br":
      return <br />;
    case "link": {
      const link = token as Tokens.Link;
      if (!SAFE.test(link.href)) return <span title={link.href}>{inline(link.tokens)}</span>;
      return (
        <a href={link.href} target="_blank" rel="noopener noreferrer">
          {inline(link.tokens)}
        </a>
      );
    }
    case "image": {
      // Nothing is fetched from elsewhere: a picture in a text is a link to it.
      const image = token as Tokens.Image;
      const label = `image: ${image.text || image.href}`;
      if (!SAFE.test(image.href)) return <span>{label}</span>;
      return (
        <a href={image.href} target="_blank" rel="noopener noreferrer">
          {label}
        </a>
      );
    }
    case "escape":
      return (token as Tokens.Escape).text;
    case "text": {
      const text = token as Tokens.Text;
      return text.tokens ? inline(text.tokens) : decode(text.text);
    }
    default:
      return token.raw;
  }
}

function Block({ token }: { token: Token }): ReactNode {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading": {
      // The page has headings of its own; an agent's are below them.
      const level = Math.min(6, (token as Tokens.Heading).depth + 2);
      return (
        <div className={`md-h md-h${(token as Tokens.Heading).depth}`} role="heading" aria-level={level}>
          {inline(token.tokens)}
        </div>
      );
    }
    case "code": {
      const code = token as Tokens.Code;
      return <Code text={code.text} language={(code.lang ?? "").split(/\s/)[0] ?? ""} />;
    }
    case "blockquote":
      return <blockquote>{blocks((token as Tokens.Blockquote).tokens)}</blockquote>;
    case "hr":
      return <hr />;
    case "list": {
      const list = token as Tokens.List;
      const items = list.items.map((item, at) => (
        <li key={at} className={item.task ? "md-task" : undefined}>
          {item.task && <span aria-label={item.checked ? "done" : "open"}>{item.checked ? "☑ " : "☐ "}</span>}
          {blocks(item.tokens.filter((inner) => inner.type !== "checkbox"))}
        </li>
      ));
      return list.ordered ? <ol start={Number(list.start) || 1}>{items}</ol> : <ul>{items}</ul>;
    }
    case "table": {
      const table = token as Tokens.Table;
      return (
        <div className="md-table" tabIndex={0} role="group" aria-label="table">
          <table>
            <thead>
              <tr>
                {table.header.map((cell, at) => (
                  <th key={at}>{inline(cell.tokens)}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {table.rows.map((row, at) => (
                <tr key={at}>
                  {row.map((cell, column) => (
                    <td key={column}>{inline(cell.tokens)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      );
    }
    case "paragraph":
      return <p>{inline(token.tokens)}</p>;
    case "text":
      return (token as Tokens.Text).tokens ? inline((token as Tokens.Text).tokens) : decode((token as Tokens.Text).text);
    default:
      return <p className="md-raw">{token.raw}</p>;
  }
}

function blocks(tokens: Token[]): ReactNode {
  return tokens.map((token, at) => <Block key={at} token={token} />);
}

/** Longer texts are shown as they are: reading their marks would freeze the page. */
const READ_MAX = 200_000;

export const Markdown = memo(function Markdown({ text }: { text: string }) {
  const tokens = useMemo(() => (text.length > READ_MAX ? undefined : lexer(text, { gfm: true })), [text]);
  if (!tokens) return <pre className="md md-plain">{text}</pre>;
  return <div className="md">{blocks(tokens)}</div>;
});
