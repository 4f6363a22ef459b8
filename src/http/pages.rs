//! The web pages, embedded.

use super::Routes;

/// The landing page, the call page, the self-test, and their assets.
pub fn public() -> Routes {
    Routes::new()
}

/// The console and its assets.
pub fn admin() -> Routes {
    Routes::new()
}
