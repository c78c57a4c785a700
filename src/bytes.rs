//! Sizes as people write them: `50G` is 50 × 2³⁰ bytes, wherever loom reads one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The units, smallest first, each 1024 of the one before.
const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];

/// A number of bytes that is written as `512M` or `50G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Reads a size: digits, perhaps a fraction, and a unit, such as `512M`, `1.5G`, `50GiB` or `4096` (bytes). Units are
/// binary, whatever they are called.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || "a size is such as 512M, 10G or 1.5T, in powers of 1024".to_owned();
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(split).ok_or_else(wrong)?;
    let factor = factor(unit.trim_start()).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // More digits than these are less than a byte in every unit.
    if whole.is_empty() || fraction.len() > 15 || number.ends_with('.') {
        return Err(wrong());
    }
    let whole: u128 = whole.parse().map_err(|_| wrong())?;
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| wrong())? };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let bytes = whole.checked_mul(factor).and_then(|bytes| bytes.checked_add(part * factor / scale));
    // The kernel's sizes are signed.
    let bytes = bytes.and_then(|bytes| i64::try_from(bytes).ok()).ok_or("it is larger than any disk")?;
    Ok(bytes.unsigned_abs())
}

/// A size as a message tells it: `1.5 GiB`.
pub(crate) fn about(bytes: u64) -> String {
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, None);
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, Some(next));
    }
    match unit {
        None => format!("{bytes} B"),
        Some(unit) if tenths < 100 => format!("{}.{} {unit}iB", tenths / 10, tenths % 10),
        Some(unit) => format!("{} {unit}iB", tenths / 10),
    }
}

/// What a unit stands for.
fn factor(unit: &str) -> Option<u128> {
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => return Some(1),
        Some('B' | 'b') => 0,
        Some(letter) => 1 + UNITS.iter().position(|known| *known == letter.to_ascii_uppercase())?,
    };
    let rest = letters.as_str();
    let rest_fits = rest.is_empty() || (power > 0 && matches!(rest, "B" | "b" | "iB" | "ib"));
    rest_fits.then(|| 1 << (10 * power))
}

impl fmt::Display for Bytes {
    /// In the largest unit of which it is a whole number, so that it reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut count, mut unit) = (self.0, None);
        for next in UNITS {
            if count == 0 || !count.is_multiple_of(1024) {
                break;
            }
            (count, unit) = (count / 1024, Some(next));
        }
        write!(f, "{count}{}", unit.map(String::from).unwrap_or_default())
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).map(Self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sizes_are_binary_and_read_back() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("17B", 17),
            ("1k", 1 << 10),
            ("512M", 512 << 20),
            ("50G", 50 << 30),
            ("50 GiB", 50 << 30),
            ("50gb", 50 << 30),
            ("1.5G", 3 << 29),
            ("0.25T", 1 << 38),
            (" 2P ", 2 << 50),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
            assert_eq!(parse(&Bytes(bytes).to_string()), Ok(bytes), "{text}");
        }
        assert_eq!(Bytes(3 << 29).to_string(), "1536M");
        assert_eq!(Bytes(50 << 30).to_string(), "50G");
        assert_eq!(Bytes(4097).to_string(), "4097");
    }

    #[test]
    fn a_message_tells_a_size_in_two_or_three_digits() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB"), (500 << 20, "500 MiB")]
        {
            assert_eq!(about(bytes), text);
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "G", "-1G", "1.G", ".5G", "1..5G", "1,5G", "5X", "5Gi", "5BB", "5 G B", "10%", "1e3"]
        {
            assert!(parse(text).unwrap_err().contains("512M"), "{text}");
        }
        for text in ["8192P", "99999999999999999999", "999999999999999999999999999999999999999999P"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
