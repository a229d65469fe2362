//! H1: what is malformed is refused with a code that says so, and nobody panics.

use super::super::{Fact, Line};

/// Codes that say that the server did not expect it.
const UNEXPECTED: [&str; 4] = ["INTERNAL", "INTERNAL_ERROR", "UNKNOWN", ""];

/// H1.
pub fn malformed(lines: &[Line]) -> Vec<String> {
    let wrong = lines.iter().filter_map(|line| match &line.fact {
        Fact::Refused { what, code } if UNEXPECTED.contains(&code.as_str()) => {
            Some(format!("{what} was refused with {code:?}"))
        }
        Fact::Panicked { process, message } => Some(format!("the {process} panicked: {message}")),
        _ => None,
    });
    wrong.collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{bad, good};
    use super::*;

    #[test]
    fn nobody_is_surprised() {
        let refused = |code: &str| {
            let (what, code) = ("a frame".to_owned(), code.to_owned());
            ("test", Fact::Refused { what, code })
        };
        good(malformed, vec![refused("INVALID_INPUT")]);
        bad(
            malformed,
            "refused with \"INTERNAL\"",
            vec![refused("INTERNAL")],
        );
        let (process, message) = ("server".to_owned(), "index out of bounds".to_owned());
        let panicked = Fact::Panicked { process, message };
        bad(malformed, "the server panicked", vec![("test", panicked)]);
    }
}
