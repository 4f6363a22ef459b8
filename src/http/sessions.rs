//! Sessions as the workers show them, page by page, and their rates.

/// What was seen of the sessions lately.
#[derive(Default)]
pub struct Watch {}
