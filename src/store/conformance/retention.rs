//! What retention proposes.

use super::*;
use crate::store::retention::{self, Policy};

pub(super) async fn retention_proposes_what_is_old_or_too_much(provider: Box<dyn Provider>) {
    let store = provider.store();
    for seq in 0..20 {
        let timed = |name| Append {
            time: Timestamp::from_millis(if name == "old" { 0 } else { 1_000_000 }),
            ..append(name, seq, &["0123456789"])
        };
        commit(
            &store,
            appends(vec![timed("old"), timed("long"), timed("kept")]),
        )
        .await;
    }
    let policy = Policy {
        max_age: Some(Duration::from_secs(100)),
        max_events: Some(5),
        max_bytes: None,
    };
    let now = Timestamp::from_millis(1_000_001);
    let keep = |stream: &Stream| stream.as_str() == "kept";
    let plan = retention::plan(&*store, &policy, now, None, &keep)
        .await
        .expect("readable");
    assert!(plan.next.is_none() && plan.damaged.is_empty());
    let proposed: Vec<_> = plan
        .trims
        .iter()
        .map(|trim| (trim.stream.as_str(), trim.first_seq, trim.drop))
        .collect();
    assert_eq!(proposed, [("long", 16, false), ("old", 0, true)]);
    commit(
        &store,
        Commit {
            trims: plan.trims,
            ..Commit::default()
        },
    )
    .await;
    assert_eq!(head(&store, "long").await.first_seq, 16);
    assert_eq!(store.head(&stream("old")).await, Ok(None));
    let policy = Policy {
        max_bytes: Some(40),
        ..Policy::default()
    };
    let plan = retention::plan(&*store, &policy, now, None, &keep)
        .await
        .expect("readable");
    // Each entry has 12 bytes, encoded.
    assert_eq!((plan.trims.len(), plan.trims[0].first_seq), (1, 18));
}
