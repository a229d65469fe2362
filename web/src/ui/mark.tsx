// Baton's mark: a baton, handed over.
export function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false">
      <path d="M7 25 L25 7" stroke="currentColor" strokeWidth="5" strokeLinecap="round" fill="none" />
      <path className="mark-band" d="M13.5 18.5 L18.5 13.5" strokeWidth="5" fill="none" />
    </svg>
  );
}
