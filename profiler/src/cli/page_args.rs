//! The words of the live page and of the history behind it, part of the agent's.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// `--page` and what belongs to it.
#[derive(Debug, Clone, Args)]
pub struct Page {
    /// Where the live page listens, such as 127.0.0.1:7654; off for nowhere. Beyond loopback it asks for a token.
    #[arg(long, value_name = "ADDRESS", default_value = "off", env = "EVERFLAME_PAGE")]
    pub page: String,
    /// File with the page's token; without it, and beyond loopback, one is made and printed at the start.
    #[arg(long, value_name = "FILE", env = "EVERFLAME_PAGE_TOKEN_FILE")]
    pub page_token_file: Option<PathBuf>,
    /// Where the history is kept; off for nowhere. auto: with a page in /var/lib/everflame/history, or in a temporary directory
    /// where that can't be made; without a page nowhere.
    #[arg(long, value_name = "DIRECTORY", default_value = "auto", env = "EVERFLAME_STORE")]
    pub store: String,
    /// Most space for the history, such as 512MiB or 2GiB.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", env = "EVERFLAME_STORE_SIZE", value_parser = parse_size)]
    pub store_size: u64,
    /// How long history is kept, such as 24h or 7d.
    #[arg(long, value_name = "TIME", default_value = "24h", env = "EVERFLAME_STORE_AGE", value_parser = parse_age)]
    pub store_age: Duration,
}

impl Page {
    /// Whether there is a page.
    pub(super) fn is_on(&self) -> bool {
        self.page != "off"
    }
}

/// Below this the index alone, 5 MB, would be too much.
const MIN_SIZE: u64 = 16 << 20;

fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "MiB" | "M" => 20,
        "GiB" | "G" => 30,
        "TiB" | "T" => 40,
        _ => return Err("write a whole number and MiB, GiB or TiB, such as 512MiB".to_owned()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes >= MIN_SIZE).ok_or_else(|| "must be 16MiB or more".to_owned())
}

/// Longest history: a year.
const MAX_AGE_HOURS: u64 = 366 * 24;

fn parse_age(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let hours = match unit {
        "h" => 1,
        "d" => 24,
        _ => return Err("write a whole number and h or d, such as 24h or 7d".to_owned()),
    };
    let hours = number.parse::<u64>().ok().and_then(|number| number.checked_mul(hours));
    let hours = hours.filter(|hours| (1..=MAX_AGE_HOURS).contains(hours));
    hours.map(|hours| Duration::from_secs(hours * 3600)).ok_or_else(|| "must be between 1h and 366d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_bounds() {
        for (text, expected) in [
            ("1GiB", Some(1 << 30)),
            ("512MiB", Some(512 << 20)),
            ("2T", Some(2 << 40)),
            ("16M", Some(16 << 20)),
            ("15MiB", None),
            ("1GB", None),
            ("1073741824", None),
            ("", None),
            ("GiB", None),
            ("-1GiB", None),
            ("1.5GiB", None),
            ("99999999999999TiB", None),
        ] {
            assert_eq!(parse_size(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn ages_are_hours_or_days() {
        for (text, hours) in [
            ("24h", Some(24)),
            ("7d", Some(168)),
            ("1h", Some(1)),
            ("366d", Some(8784)),
            ("367d", None),
            ("0h", None),
            ("90m", None),
            ("24", None),
            ("d", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(parse_age(text).ok(), hours.map(|hours: u64| Duration::from_secs(hours * 3600)), "{text:?}");
        }
    }
}
