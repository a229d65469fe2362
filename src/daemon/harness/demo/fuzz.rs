//! Lines to the scripted agent, as any bytes.

use std::io::Cursor;
use std::sync::mpsc::sync_channel;

use super::agent::Event;
use super::protocol::read;
use crate::base::fuzz::Target;

#[test]
fn lines_to_the_demo() {
    let seeds = [
        r#"{"type":"user","uuid":"u","message":{"role":"user","content":"say hi"}}"#,
        r#"{"type":"control_request","request_id":"r","request":{"subtype":"interrupt"}}"#,
        r#"{"type":"control_response","response":{"request_id":"r","subtype":"success","response":{"behavior":"allow"}}}"#,
    ];
    Target::new("demo_lines")
        .seeds(seeds)
        .words(&["content", "text", "\n", "[{\"type\":\"text\",\"text\":"])
        .run(|bytes| {
            let most = bytes.iter().filter(|byte| **byte == b'\n').count() + 2;
            let (events, said) = sync_channel(most + 1);
            read(Cursor::new(bytes), events);
            let said: Vec<Event> = said.iter().collect();
            assert!(said.len() <= most, "{} events of {most} lines", said.len());
            assert!(
                matches!(said.last(), Some(Event::End | Event::Garbage { .. })),
                "it says that it ended"
            );
        });
}
