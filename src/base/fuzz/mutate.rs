//! Makes inputs of seeds.

use bolero::{Driver, ValueGenerator};

use super::{Input, MAX_BYTES};

/// Bytes that parsers trip over: ends, escapes, marks of direction, halves of characters, marks of JSON and of paths,
/// lengths of protobuf.
const ODD: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\x1b[",
    b"\x1b]0;",
    b"\x07",
    b"\x9b",
    b"\xc2\x9b",
    b"\r\n",
    b"\n",
    b"\n\n",
    b"\r",
    b"\t",
    b"\x7f",
    b"\xe2\x80\xae",
    b"\xe2\x81\xa6",
    b"\xe2\x80\x8b",
    b"\xef\xbb\xbf",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98",
    "é".as_bytes(),
    "😀".as_bytes(),
    b"\\ud83d",
    b"\\u0000",
    b"\\\\",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"-",
    b"--",
    b"..",
    b"../",
    b"/",
    b"//",
    b"~",
    b"%00",
    b"%2e%2e",
    b"*",
    b"**",
    b"?",
    b"=",
    b";",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x0a\x00",
    b"\x12\x00",
    b"\x08\x00",
];

/// Numbers at which types end.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "-0",
    "0.5",
    "1e308",
    "1e999",
    "-1e-400",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "99999999999999999999999999",
    "00",
    "0x10",
    "NaN",
];

/// Makes inputs: some pieces, each a seed with some changes.
pub(super) struct Mutator {
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    pieces: usize,
}

impl Mutator {
    pub(super) fn new(mut seeds: Vec<Vec<u8>>, words: Vec<Vec<u8>>, pieces: usize) -> Self {
        if seeds.is_empty() {
            seeds.push(Vec::new());
        }
        Mutator {
            seeds,
            words,
            pieces,
        }
    }

    fn piece<D: Driver>(&self, driver: &mut D) -> Option<Vec<u8>> {
        let mut piece = match driver.produce::<u8>()? {
            0..8 => driver.produce::<Vec<u8>>()?,
            _ => pick(&self.seeds, driver)?.clone(),
        };
        // A third is left as it is: sequences of real messages get further than one of them broken.
        let changes = match self.pieces {
            1 => 1 + below(driver, 6)?,
            _ => below(driver, 6)?.saturating_sub(2),
        };
        for _ in 0..changes {
            self.change(&mut piece, driver)?;
        }
        piece.truncate(MAX_BYTES);
        Some(piece)
    }

    fn change<D: Driver>(&self, piece: &mut Vec<u8>, driver: &mut D) -> Option<()> {
        let at = below(driver, piece.len() + 1)?;
        let kind = driver.produce::<u8>()?;
        match kind % 12 {
            0 => {
                if let Some(byte) = piece.get_mut(at) {
                    *byte = driver.produce()?;
                }
            }
            1 => {
                if let Some(byte) = piece.get_mut(at) {
                    *byte ^= 1 << below(driver, 8)?;
                }
            }
            2 | 3 if !self.words.is_empty() => {
                let word = pick(&self.words, driver)?;
                piece.splice(at..at, word.iter().copied());
            }
            4 => {
                let odd = pick(ODD, driver)?;
                piece.splice(at..at, odd.iter().copied());
            }
            5 => {
                let end = end_of(piece, at, driver)?;
                piece.drain(at..end);
            }
            6 => {
                // What is there, several times over; seldom so often that it is deep or large.
                let end = end_of(piece, at, driver)?;
                let part = piece[at..end].to_vec();
                let most = if kind < 12 { 4_096 } else { 6 };
                let times = (1 + below(driver, most)?).min(MAX_BYTES / part.len().max(1));
                piece.splice(at..at, part.repeat(times));
            }
            7 => {
                let other = pick(&self.seeds, driver)?;
                let from = below(driver, other.len() + 1)?;
                let to = end_of(other, from, driver)?;
                let end = end_of(piece, at, driver)?;
                piece.splice(at..end, other[from..to].iter().copied());
            }
            8 => self.replace_token(piece, at, driver)?,
            9 => replace_number(piece, at, driver)?,
            10 if kind < 64 => piece.truncate(at),
            10 => {
                let end = end_of(piece, at, driver)?;
                piece[at..end].reverse();
            }
            _ => {
                let odd = pick(ODD, driver)?;
                let end = end_of(piece, at, driver)?;
                piece.splice(at..end, odd.iter().copied());
            }
        }
        Some(())
    }

    /// Puts another value in the place of the string (or word) at a place.
    fn replace_token<D: Driver>(
        &self,
        piece: &mut Vec<u8>,
        at: usize,
        driver: &mut D,
    ) -> Option<()> {
        let is_end = |byte: &u8| {
            matches!(
                byte,
                b'"' | b',' | b':' | b'{' | b'}' | b'[' | b']' | b' ' | b'/' | b'\n'
            )
        };
        let start = piece[..at]
            .iter()
            .rposition(is_end)
            .map_or(0, |end| end + 1);
        let end = at
            + piece[at..]
                .iter()
                .position(is_end)
                .unwrap_or(piece.len() - at);
        let with: Vec<u8> = match driver.produce::<u8>()? % 4 {
            0 if !self.words.is_empty() => pick(&self.words, driver)?.clone(),
            1 => pick(ODD, driver)?.to_vec(),
            2 => pick(NUMBERS, driver)?.as_bytes().to_vec(),
            _ => {
                let other = pick(&self.seeds, driver)?;
                let from = below(driver, other.len() + 1)?;
                let tail = &other[from..];
                let skip = tail.iter().position(is_end).map_or(0, |end| end + 1);
                let tail = &tail[skip..];
                let len = tail.iter().position(is_end).unwrap_or(tail.len());
                tail[..len].to_vec()
            }
        };
        piece.splice(start..end, with);
        Some(())
    }
}

impl ValueGenerator for Mutator {
    type Output = Input;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Input> {
        let count = 1 + below(driver, self.pieces)?;
        let pieces: Option<Vec<Vec<u8>>> = (0..count).map(|_| self.piece(driver)).collect();
        pieces.map(Input)
    }
}

/// Puts another number in the place of the next one behind a place.
fn replace_number<D: Driver>(piece: &mut Vec<u8>, at: usize, driver: &mut D) -> Option<()> {
    let start = at
        + piece[at..]
            .iter()
            .position(u8::is_ascii_digit)
            .unwrap_or_default();
    let len = piece[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let number = pick(NUMBERS, driver)?;
    piece.splice(start..start + len, number.bytes());
    Some(())
}

/// Where a part that begins at a place ends: mostly soon.
fn end_of<D: Driver>(piece: &[u8], at: usize, driver: &mut D) -> Option<usize> {
    let rest = piece.len() - at;
    let most = if driver.produce::<u8>()? < 192 {
        16
    } else {
        rest
    };
    Some(at + below(driver, rest.min(most) + 1)?)
}

fn pick<'a, T, D: Driver>(from: &'a [T], driver: &mut D) -> Option<&'a T> {
    let at = below(driver, from.len())?;
    from.get(at)
}

fn below<D: Driver>(driver: &mut D, most: usize) -> Option<usize> {
    let number = driver.produce::<u32>()? as usize;
    Some(number % most.max(1))
}
