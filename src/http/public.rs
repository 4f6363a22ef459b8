//! The public part: its routes in one place.

use super::{Routes, credentials, pages, signalling};

/// Every route of the public part.
pub fn routes() -> Routes {
    Routes::new().merge(credentials::routes()).merge(pages::public()).merge(signalling::routes())
}
