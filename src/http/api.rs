//! `/api/v1`: what the server does, as JSON, and the handles to steer it.

use super::Routes;

/// Every route of the API.
pub fn routes() -> Routes {
    Routes::new()
}
