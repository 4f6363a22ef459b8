//! Time-limited credentials for those who may have them (the TURN REST draft).

use super::Routes;

/// Who asked how often.
#[derive(Default)]
pub struct Desk {}

/// `/turn`, `/v1alpha/iceconfig`, `/v1/credentials`.
pub fn routes() -> Routes {
    Routes::new()
}
