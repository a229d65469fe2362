//! The seeds that are files: `tests/fuzz/<target>/<what it is>`.

use std::fs;
use std::path::Path;

use super::Input;

/// The files of a target, by name. A file is one input as it is; of a target that takes several pieces, each line is
/// one. A file that ends in `.hex` has bytes written in hexadecimal, one piece a line.
pub(super) fn of(target: &str, has_pieces: bool) -> Vec<(String, Input)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz")
        .join(target);
    let Ok(entries) = fs::read_dir(&dir) else {
        return Vec::new();
    };
    let mut found: Vec<(String, Input)> = entries
        .map(|entry| {
            let path = entry.expect("a readable entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let data = fs::read(&path).expect("a readable seed");
            let input = if name.ends_with(".hex") {
                let text = String::from_utf8(data).expect("hexadecimal text");
                text.lines().map(bytes).collect()
            } else if has_pieces {
                let lines = data.strip_suffix(b"\n").unwrap_or(&data);
                lines
                    .split(|byte| *byte == b'\n')
                    .map(<[u8]>::to_vec)
                    .collect()
            } else {
                vec![data]
            };
            (name, Input(input))
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

fn bytes(line: &str) -> Vec<u8> {
    let digits: Vec<u8> = line
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .map(|digit| u8::try_from(digit).unwrap_or_default())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect()
}
