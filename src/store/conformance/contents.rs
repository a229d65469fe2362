//! Large content.

use super::*;

/// The SHA-256 of some bytes, as a content's name.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(super) async fn content_is_checked_and_referred_to(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    let whole = Bytes::from(
        (0..100_000u32)
            .flat_map(u32::to_le_bytes)
            .collect::<Vec<u8>>(),
    );
    let size = whole.len() as u64;
    let name = sha256(&whole);
    let half = whole.len() / 2;
    assert_eq!(store.size(&name).await, Ok(None));
    assert_eq!(
        store.stage(&name, size, 0, whole.slice(..half)).await,
        Ok(false)
    );
    assert_eq!(
        store.stage(&name, size, 0, whole.slice(..half)).await,
        Ok(false),
        "a piece twice"
    );
    assert_eq!(store.size(&name).await, Ok(None), "not whole yet");
    assert_eq!(
        store
            .stage(&name, size, half as u64, whole.slice(half..))
            .await,
        Ok(true)
    );
    assert_eq!(
        store.stage(&name, size, 0, whole.slice(..half)).await,
        Ok(true),
        "it is there"
    );
    assert_eq!(store.size(&name).await, Ok(Some(size)));
    assert_eq!(
        store.read_content(&name, 4, 8).await,
        Ok(whole.slice(4..12))
    );
    assert_eq!(
        store.read_content(&name, size - 3, 8).await,
        Ok(whole.slice(half * 2 - 3..))
    );
    assert_eq!(store.read_content(&name, size, 8).await, Ok(Bytes::new()));

    let other = sha256(b"something else");
    let malformed =
        |result: Result<bool>| assert!(matches!(result, Err(Error::Malformed(_))), "{result:?}");
    malformed(
        store
            .stage(&other, 5, 0, Bytes::from_static(b"wrong"))
            .await,
    );
    malformed(
        store
            .stage(&other, 14, 3, Bytes::from_static(b"ething"))
            .await,
    );
    malformed(
        store
            .stage(
                &other,
                14,
                0,
                Bytes::from_static(b"something else, and more"),
            )
            .await,
    );
    malformed(
        store
            .stage("../../etc/passwd", 1, 0, Bytes::from_static(b"x"))
            .await,
    );
    assert!(matches!(store.size("..").await, Err(Error::Malformed(_))));
    assert_eq!(
        store
            .stage(&other, 14, 0, Bytes::from_static(b"something else"))
            .await,
        Ok(true)
    );
    let empty = sha256(b"");
    assert_eq!(store.stage(&empty, 0, 0, Bytes::new()).await, Ok(true));
    assert_eq!(store.read_content(&empty, 0, 9).await, Ok(Bytes::new()));

    let (a, ab) = (stream("a"), stream("a/b"));
    let both = Commit {
        appends: vec![append("a", 0, &["x"]), append("a/b", 0, &["x"])],
        ops: vec![store.refer_op(&a, &name), store.refer_op(&ab, &name)],
        trims: vec![],
    };
    commit(&store, both).await;
    assert_eq!(store.refers(&a, &name).await, Ok(true));
    assert_eq!(store.refers(&a, &other).await, Ok(false));
    drop(store);
    provider.reopen().await;
    let store = provider.store();
    commit(&store, drop_stream("a")).await;
    assert_eq!(
        store.refers(&a, &name).await,
        Ok(false),
        "a dropped stream refers to nothing"
    );
    assert_eq!(store.refers(&ab, &name).await, Ok(true));
    assert_eq!(store.size(&name).await, Ok(Some(size)));
}
