//! [`Token`]: what lets somebody in, from a file or made up.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rand::Rng as _;

/// Shortest token: one that can't be guessed over a network.
const MIN_BYTES: usize = 16;
/// Longest: it has to fit into a header.
const MAX_BYTES: usize = 512;
/// Random bytes of a token that is made, as many hex digits twice.
const MADE_BYTES: usize = 24;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file can't be read.
    #[error("can't read the page's token from {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is none.
    #[error("the page's token in {} must have {MIN_BYTES} to {MAX_BYTES} letters, digits, - . _ or ~", path.display())]
    Unfit {
        /// Which file.
        path: PathBuf,
    },
}

/// A secret that lets in who knows it.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(…)")
    }
}

impl Token {
    /// A new one.
    pub fn make() -> Token {
        let mut bytes = [0_u8; MADE_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        let mut text = String::with_capacity(2 * MADE_BYTES);
        for byte in bytes {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Token(text)
    }

    /// The one in a file; white space around it does not count.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read(path: &Path) -> Result<Token, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let limit = 2 * MAX_BYTES as u64;
        std::fs::File::open(path).map_err(failed)?.take(limit).read_to_string(&mut text).map_err(failed)?;
        Token::of_text(text.trim()).ok_or_else(|| TokenError::Unfit { path: path.to_owned() })
    }

    /// Only characters that stay themselves in an address and in a cookie (RFC 3986 §2.3).
    fn of_text(text: &str) -> Option<Token> {
        let fits = (MIN_BYTES..=MAX_BYTES).contains(&text.len());
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        (fits && plain).then(|| Token(text.to_owned()))
    }

    /// The secret, to be printed once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether this is it, in a time that does not tell how much of it is right.
    pub fn is(&self, offered: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let different = own.iter().zip(offered).fold(0_u8, |sum, (left, right)| sum | (left ^ right));
        // Keeps the compiler from stopping at the first difference.
        own.len() == offered.len() && std::hint::black_box(different) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_token_is_like_no_other_and_fits_its_own_rules() {
        let (one, other) = (Token::make(), Token::make());
        assert_eq!(one.reveal().len(), 48);
        assert_ne!(one.reveal(), other.reveal());
        assert!(Token::of_text(one.reveal()).is_some());
        assert!(one.is(one.reveal().as_bytes()) && !one.is(other.reveal().as_bytes()));
        assert_eq!(format!("{one:?}"), "Token(…)");
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::of_text("0123456789abcdef").unwrap();
        for (offered, right) in [
            ("0123456789abcdef", true),
            ("", false),
            ("0123456789abcde", false),
            ("0123456789abcdeg", false),
            ("0123456789abcdef0", false),
            ("0123456789ABCDEF", false),
        ] {
            assert_eq!(token.is(offered.as_bytes()), right, "{offered}");
        }
    }

    #[test]
    fn a_file_holds_a_token_or_the_error_says_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (content, fits) in [
            ("0123456789abcdef\n", true),
            ("  0123-4567.89ab_cd~f \r\n", true),
            ("short", false),
            ("", false),
            ("0123456789abcdef 0123456789abcdef", false),
            ("0123456789abcdef;", false),
            (&"x".repeat(513), false),
            (&"x".repeat(5000), false),
        ] {
            std::fs::write(&path, content).unwrap();
            match Token::read(&path) {
                Ok(token) => assert!(fits && token.reveal() == content.trim(), "{content}"),
                Err(error) => {
                    assert!(!fits && error.to_string().contains("must have 16 to 512 letters"), "{content}: {error}");
                }
            }
        }
        let error = Token::read(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.ends_with("none: No such file or directory (os error 2)"), "{error}");
    }
}
