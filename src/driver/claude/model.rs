//! Names of models.

use crate::base::{Error, Result};

/// The longest model name, in bytes.
const MAX_MODEL_BYTES: usize = 200;

/// Whether a model's name can be handed to the harness.
pub fn check_model(model: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@[]".contains(c);
    if model.len() > MAX_MODEL_BYTES || !model.chars().all(plain) {
        return Err(Error::invalid(
            "model",
            format!(
                "is not a model's name: at most {MAX_MODEL_BYTES} letters, digits and -_.:/@[]"
            ),
        ));
    }
    Ok(())
}
