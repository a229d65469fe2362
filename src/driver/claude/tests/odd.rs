//! Lines nobody meant to write: nothing panics, and nothing is ever allowed.

use proptest::prelude::*;
use serde_json::Value;

use super::super::interpreter::ClaudeDriver;
use super::rig::*;
use crate::driver::{Driver, Output};

/// How many cases a property tries; `BATON_TEST_ROUNDS` multiplies it.
fn cases(few: u32) -> ProptestConfig {
    let rounds = std::env::var("BATON_TEST_ROUNDS");
    let rounds = rounds.ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    ProptestConfig {
        cases: few.saturating_mul(rounds),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn feed(lines: impl IntoIterator<Item = Vec<u8>>) -> Result<(), TestCaseError> {
    let mut driver = ClaudeDriver::new(place(), &start());
    for (line, seq) in lines.into_iter().zip(1..) {
        let body = stdout(line);
        let outputs = driver.record(&record(seq, body));
        for output in &outputs {
            if let Output::Write(write) = output {
                let text = String::from_utf8_lossy(&write.data);
                let said: Value = serde_json::from_str(&text).unwrap();
                let response = &said["response"];
                prop_assert_ne!(&response["response"]["behavior"], "allow");
                prop_assert_eq!(text.trim_end().lines().count(), 1);
            }
        }
        let restored = ClaudeDriver::restore(place(), &driver.snapshot()).unwrap();
        prop_assert_eq!(restored.snapshot(), driver.snapshot());
    }
    Ok(())
}

/// Any JSON value, a little deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "can_use_tool",
            "allow",
            "system",
            "init",
            "tool_use",
            "tool_result",
            "text",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{0,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Replaces the `n`th value of a line, counted in reading order.
fn replace(value: &mut Value, n: &mut usize, with: &Value) -> bool {
    if *n == 0 {
        *value = with.clone();
        return true;
    }
    *n -= 1;
    match value {
        Value::Array(values) => values.iter_mut().any(|inner| replace(inner, n, with)),
        Value::Object(map) => map.values_mut().any(|inner| replace(inner, n, with)),
        _ => false,
    }
}

fn real_lines() -> Vec<&'static str> {
    let mut lines = said(PROMPTS);
    lines.extend(said(TURNS));
    lines
}

proptest! {
    #![proptest_config(cases(192))]

    #[test]
    fn any_bytes_are_read(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..6)) {
        feed(lines)?;
    }

    #[test]
    fn real_lines_with_one_byte_changed_are_read(
        at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let lines = real_lines();
        let mut line = lines[at.index(lines.len())].as_bytes().to_vec();
        let byte = byte.index(line.len());
        line[byte] = to;
        feed([line])?;
    }

    #[test]
    fn real_lines_with_one_value_changed_are_read(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, any_json()), 1..8),
    ) {
        let lines = real_lines();
        let changed = changes.into_iter().map(|(at, mut n, with)| {
            let mut line: Value = serde_json::from_str(lines[at.index(lines.len())]).unwrap();
            replace(&mut line, &mut n, &with);
            line.to_string().into_bytes()
        });
        feed(changed.collect::<Vec<_>>())?;
    }

    #[test]
    fn odd_requests_are_asked_or_refused(request in any_json(), id in any_json()) {
        let mut line = serde_json::json!({"type": "control_request", "request_id": id, "request": request});
        if line["request"].is_object() {
            line["request"]["subtype"] = "can_use_tool".into();
        }
        let mut driver = ClaudeDriver::new(place(), &start());
        let outputs = driver.record(&record(1, stdout(line.to_string())));
        let asked = prompts(&events(&outputs)).len();
        let refused = writes(&outputs).len();
        let has_id = !line["request_id"].is_null();
        prop_assert_eq!(asked + refused, usize::from(has_id));
    }
}
