//! A bearer token in a file that somebody else renews: Kubernetes rewrites a service account's before it expires. Read for each
//! request, which costs less than noticing a change.

use std::path::{Path, PathBuf};

use ::http::HeaderValue;
use tokio::io::AsyncReadExt;

/// Longest token that is read; Kubernetes' are about 1 KiB, HTTP servers take headers of 8 KiB as a rule.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// The file.
#[derive(Clone, Debug)]
pub(super) struct TokenFile(PathBuf);

impl TokenFile {
    pub(super) fn new(path: &Path) -> TokenFile {
        TokenFile(path.to_owned())
    }

    /// `Bearer …`, or a sentence about the file.
    pub(super) async fn header(&self) -> Result<HeaderValue, String> {
        let shown = self.0.display();
        let mut token = String::new();
        let file =
            tokio::fs::File::open(&self.0).await.map_err(|error| format!("can't read the token {shown}: {error}"))?;
        let read = file.take(MAX_TOKEN_BYTES).read_to_string(&mut token).await;
        read.map_err(|error| format!("can't read the token {shown}: {error}"))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| format!("the token {shown} is not one line of text"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
