//! [`Refusal`]: why a request gets no answer, in one sentence for people and one status for programs.

use hyper::StatusCode;
use store::StoreError;

/// See the module documentation.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a request that this server knows how to read.
    #[error("{0}")]
    Malformed(String),
    /// The token is missing or wrong.
    #[error(
        "this page asks for its token: open the address that everflame printed, or send Authorization: Bearer TOKEN"
    )]
    NoToken,
    /// It comes from somewhere that is not let in.
    #[error("{0}")]
    Forbidden(&'static str),
    /// No such path.
    #[error("there is nothing here; docs/http.md lists what there is")]
    NotFound,
    /// Neither GET nor HEAD.
    #[error("only GET and HEAD are answered")]
    Method,
    /// A request with a body.
    #[error("a request has no body")]
    Body,
    /// There is no history, or none yet.
    #[error("there is no history (yet): the first samples are there after a few seconds, unless it is off")]
    NoHistory,
    /// Nothing in that range that this form could show.
    #[error("there are no samples in that range")]
    NoSamples,
    /// What would be an answer is too large.
    #[error("{0}; ask for a shorter range or filter it")]
    TooMuch(String),
    /// Too many questions at once.
    #[error("too many questions at once; try again")]
    Busy,
    /// Others leave too much unread.
    #[error("too many answers are not read yet; try again")]
    Unread,
    /// The question took too long.
    #[error("the answer took too long; ask for a shorter range")]
    TooSlow,
    /// The history can't be read.
    #[error("the history can't be read: {0}")]
    Store(StoreError),
    /// A bug.
    #[error("the answer can't be made: {0}")]
    Inside(String),
}

impl Refusal {
    /// The status that goes with it.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::NoToken => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
            Refusal::NotFound | Refusal::NoSamples => StatusCode::NOT_FOUND,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Body => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TooMuch(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::NoHistory | Refusal::Busy | Refusal::Unread | Refusal::TooSlow => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Store(_) | Refusal::Inside(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Query(what) => Refusal::Malformed(what.to_owned()),
            StoreError::GivenUp => Refusal::TooSlow,
            StoreError::IndexClosed => Refusal::NoHistory,
            other => Refusal::Store(other),
        }
    }
}
