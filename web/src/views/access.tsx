// Who may call: tokens, what they open, and taking them back.
import { useEffect, useState } from "react";
import { encode } from "uqr";

import { access as api } from "../api/transport";
import { type Narrowing, type Token, TokenKind, TokenScope } from "../gen/baton/v1/access_pb";
import { useCell } from "../store/cell";
import { auth, records } from "../store/world";
import { moment, ms, SCOPES, short } from "../text/format";
import { Ago, Badge, Button, CopyButton, Dialog, Empty, Failure, Field, Loading, useAction } from "../ui/bits";

async function tokens(): Promise<Token[]> {
  const all: Token[] = [];
  let pageToken = "";
  do {
    const answer = await api.listTokens({ pageSize: 1000, pageToken });
    all.push(...answer.tokens);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  return all.reverse();
}

function live(token: Token): boolean {
  return !token.revokedAt && (!token.expiresAt || ms(token.expiresAt) > Date.now());
}

export default function Access() {
  useCell(auth);
  const [list, setList] = useState<Token[]>();
  const [failure, setFailure] = useState<unknown>();
  const [round, setRound] = useState(0);
  const [making, setMaking] = useState(false);
  const [inviting, setInviting] = useState(false);
  const [old, setOld] = useState(false);
  useEffect(() => {
    if (!auth.admin) return;
    let left = false;
    tokens().then(
      (all) => {
        if (left) return;
        setList(all);
        setFailure(undefined);
      },
      (thrown: unknown) => {
        if (!left) setFailure(thrown);
      },
    );
    return () => {
      left = true;
    };
  }, [round]);
  const again = () => setRound(round + 1);
  if (!auth.admin) {
    return (
      <div className="page">
        <header className="page-head"><h1>Access</h1></header>
        <Empty title="Only an admin sees tokens." />
      </div>
    );
  }
  const shown = list?.filter((token) => old || live(token)) ?? [];
  return (
    <div className="page">
      <header className="page-head">
        <h1>Access</h1>
        <span className="spacer" />
        <label className="check"><input type="checkbox" checked={old} onChange={(event) => setOld(event.target.checked)} /> revoked and expired</label>
        <Button onClick={() => setInviting(true)}>Sign in a phone</Button>
        <Button kind="primary" icon="plus" onClick={() => setMaking(true)}>New token</Button>
      </header>
      {failure !== undefined && <Failure thrown={failure} retry={again} />}
      {!list && failure === undefined && <Loading what="tokens" />}
      {list && (
        <ul className="lines-list tokens" aria-label="Tokens">
          {shown.map((token) => (
            <Line key={token.id} token={token} again={again} />
          ))}
        </ul>
      )}
      {inviting && <Invite close={() => (setInviting(false), again())} />}
      {making && <Make close={() => (setMaking(false), again())} />}
    </div>
  );
}

function Line({ token, again }: { token: Token; again: () => void }) {
  const [busy, run] = useAction();
  const [asking, setAsking] = useState(false);
  const mine = auth.state.kind === "in" && auth.state.caller.id === token.id;
  const daemon = token.daemonId ? records.daemons.get(token.daemonId)?.name : undefined;
  return (
    <li className={live(token) ? "" : "off"}>
      <Badge tone={token.scope === TokenScope.ADMIN ? "work" : ""}>{SCOPES[token.scope]}</Badge>
      <b className="clip">{token.name || daemon || token.id}</b>
      {mine ? <Badge tone="good">this browser</Badge> : token.kind === TokenKind.BROWSER && <Badge>browser</Badge>}
      <span className="dim">
        <Used token={token} /> · <Ago at={ms(token.createdAt)} prefix="made " />
        {token.revokedAt ? <> · revoked <Ago at={ms(token.revokedAt)} /></> : token.expiresAt ? <> · until {moment(ms(token.expiresAt))}</> : null}
      </span>
      <span className="spacer" />
      {token.narrowing && <Sees narrowing={token.narrowing} />}
      {live(token) && <Button small kind="quiet" busy={busy} onClick={() => setAsking(true)}>Revoke…</Button>}
      {asking && (
        <Dialog title={`Revoke ${token.name || SCOPES[token.scope]}?`} close={() => setAsking(false)}>
          <p>{mine ? "This browser is signed in with it and will be signed out." : "Whoever uses it is cut off within half a minute."} It cannot be given back.</p>
          <div className="buttons">
            <Button
              kind="danger"
              busy={busy}
              onClick={() =>
                run(async () => {
                  await api.revokeToken({ tokenId: token.id });
                  setAsking(false);
                  again();
                })
              }
            >
              Revoke it
            </Button>
            <Button kind="quiet" onClick={() => setAsking(false)}>Back</Button>
          </div>
        </Dialog>
      )}
    </li>
  );
}

/** What was not used for this long may be forgotten by its owner, in ms. */
const STALE_MS = 30 * 86_400_000;

function Used({ token }: { token: Token }) {
  const at = ms(token.lastUsedAt);
  if (at === 0) return <span>no use known</span>;
  return <span className={live(token) && Date.now() - at > STALE_MS ? "warn" : undefined}><Ago at={at} prefix="used " /></span>;
}

/** What a narrowed token sees. */
function Sees({ narrowing }: { narrowing: Narrowing }) {
  return (
    <ul className="sees" aria-label="sees only">
      {narrowing.projects.map((project) => (
        <li key={`${project.daemonId}:${project.directory}`}>
          <Badge title="sees only sessions beneath this directory">
            {project.daemonId && `${records.daemons.get(project.daemonId)?.name ?? short(project.daemonId)}: `}
            <span className="path">{project.directory}</span>
          </Badge>
        </li>
      ))}
      {narrowing.sessionIds.map((id) => (
        <li key={id}><Badge title="sees only this session and what continues it">session {records.sessions.get(id)?.title || short(id)}</Badge></li>
      ))}
    </ul>
  );
}

/** A link that signs another browser in, as text and for a camera. */
function Invite({ close }: { close: () => void }) {
  const [scope, setScope] = useState(TokenScope.OPERATOR);
  const [base, setBase] = useState(location.origin);
  const [code, setCode] = useState("");
  const [busy, run] = useAction();
  const local = /\/\/(localhost|127\.|\[::1\])/.test(base);
  const link = `${base.replace(/\/+$/, "")}/#code=${code}`;
  return (
    <Dialog title="Sign in another browser" close={close}>
      <Field label="The server's address, as the other device reaches it">
        {(id) => <input id={id} className="mono" value={base} onChange={(event) => setBase(event.target.value)} />}
      </Field>
      {local && <p className="warn">This address means this machine alone. Let the server listen on one that the phone reaches, with TLS.</p>}
      {code === "" ? (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            run(async () => setCode((await api.createSignInCode({ scope })).code));
          }}
        >
          <Field label="It may">
            {(id) => (
              <select id={id} value={scope} onChange={(event) => setScope(Number(event.target.value))}>
                <option value={TokenScope.VIEWER}>look (viewer)</option>
                <option value={TokenScope.OPERATOR}>start, steer and answer (operator)</option>
                <option value={TokenScope.ADMIN}>do everything (admin)</option>
              </select>
            )}
          </Field>
          <div className="buttons"><Button submit kind="primary" busy={busy}>Make the link</Button></div>
        </form>
      ) : (
        <>
          <p>It works once, within ten minutes.</p>
          <Qr text={link} />
          <div className="code"><pre tabIndex={0}><code>{link}</code></pre><CopyButton text={link} /></div>
          <div className="buttons"><Button kind="primary" onClick={close}>Done</Button></div>
        </>
      )}
    </Dialog>
  );
}

/** Dark on light whatever the theme: cameras want it so. */
function Qr({ text }: { text: string }) {
  const { size, data } = encode(text, { border: 2 });
  const path = data.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : []))).join("");
  return (
    <svg className="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label="The link as a QR code">
      <rect width={size} height={size} fill="#fff" />
      <path d={path} fill="#000" />
    </svg>
  );
}

const LIVES: readonly { days: number; says: string }[] = [
  { days: 1, says: "a day" },
  { days: 30, says: "30 days" },
  { days: 365, says: "a year" },
  { days: 0, says: "until it is revoked" },
];

function Make({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [scope, setScope] = useState(TokenScope.OPERATOR);
  const [days, setDays] = useState(30);
  const [projects, setProjects] = useState("");
  const directories = projects.split("\n").map((line) => line.trim()).filter(Boolean);
  const [secret, setSecret] = useState("");
  const [busy, run] = useAction();
  return (
    <Dialog title="New token" close={close}>
      {secret === "" ? (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            const ttl = days === 0 ? undefined : { seconds: BigInt(days * 86_400), nanos: 0 };
            const narrowing = directories.length > 0 && scope !== TokenScope.ADMIN ? { projects: directories.map((directory) => ({ directory })) } : undefined;
            run(async () => setSecret((await api.createToken({ name, scope, ttl, narrowing })).secret));
          }}
        >
          <Field label="Name">{(id) => <input id={id} autoFocus required maxLength={100} value={name} onChange={(event) => setName(event.target.value)} />}</Field>
          <Field label="It may">
            {(id) => (
              <select id={id} value={scope} onChange={(event) => setScope(Number(event.target.value))}>
                <option value={TokenScope.VIEWER}>look (viewer)</option>
                <option value={TokenScope.OPERATOR}>start, steer and answer (operator)</option>
                <option value={TokenScope.ADMIN}>do everything (admin)</option>
              </select>
            )}
          </Field>
          <Field label="It lives">
            {(id) => (
              <select id={id} value={days} onChange={(event) => setDays(Number(event.target.value))}>
                {LIVES.map((life) => (
                  <option key={life.days} value={life.days}>{life.says}</option>
                ))}
              </select>
            )}
          </Field>
          {scope !== TokenScope.ADMIN && (
            <Field label="Only sessions beneath" hint="Absolute directories, one a line. Empty: it sees all sessions.">
              {(id) => <textarea id={id} className="mono" rows={2} value={projects} onChange={(event) => setProjects(event.target.value)} />}
            </Field>
          )}
          <div className="buttons"><Button submit kind="primary" busy={busy}>Make it</Button></div>
        </form>
      ) : (
        <>
          <p>This is the token. It is not shown again.</p>
          <div className="code"><pre tabIndex={0}><code>{secret}</code></pre><CopyButton text={secret} /></div>
          <div className="buttons"><Button kind="primary" onClick={close}>Done</Button></div>
        </>
      )}
    </Dialog>
  );
}
