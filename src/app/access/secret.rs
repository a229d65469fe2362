//! The text of a token: `bt_<26 characters of its id>_<64 hex digits>`.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::base::Secret;
use crate::base::id::TokenId;

/// Length of a token's text.
const LEN: usize = 3 + 26 + 1 + 64;

/// A token's text taken apart.
pub(super) struct Presented {
    pub(super) id: TokenId,
    secret: [u8; 64],
}

/// A new secret of 256 random bits for the token `id`: its text, and the hash that is kept.
pub(super) fn mint(id: TokenId) -> (Secret, String) {
    let bits: [u8; 32] = rand::random();
    let secret = hex(&bits);
    let id = id.to_string();
    // An id is `tok_` and 26 characters.
    let text = format!("bt_{}_{secret}", id.trim_start_matches("tok_"));
    (Secret::new(text), sha256_hex(secret.as_bytes()))
}

/// Takes a text apart; `None` if it cannot be a token.
pub(super) fn parse(text: &str) -> Option<Presented> {
    if text.len() != LEN || !text.is_ascii() {
        return None;
    }
    let rest = text.strip_prefix("bt_")?;
    let (id, secret) = rest.split_at_checked(26)?;
    let secret = secret.strip_prefix('_')?;
    Some(Presented {
        id: TokenId::parse("token", &format!("tok_{id}")).ok()?,
        secret: secret.as_bytes().try_into().ok()?,
    })
}

impl Presented {
    /// Whether its secret has this hash, in a time that does not depend on where they differ.
    pub(super) fn matches(&self, sha256: &str) -> bool {
        sha256_hex(&self.secret)
            .as_bytes()
            .ct_eq(sha256.as_bytes())
            .into()
    }
}

/// SHA-256 as lower-case hex.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn a_token_matches_its_own_hash_only() {
        let id = TokenId::generate(Timestamp::from_millis(1));
        let (text, hash) = mint(id);
        let (_, other) = mint(id);
        let presented = parse(text.expose()).unwrap();
        assert_eq!(presented.id, id);
        assert!(presented.matches(&hash));
        assert!(!presented.matches(&other) && !presented.matches(""));
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_one() {
        let (text, _) = mint(TokenId::generate(Timestamp::from_millis(1)));
        let text = text.expose();
        for bad in [
            "",
            "bt_",
            &text[1..],
            &text[..text.len() - 1],
            &text.replace("bt_", "BT_"),
            &"é".repeat(47),
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
