//! The admin part: metrics, health, the API, the console; and who may use it.

use super::{Routes, api, pages};

/// Every route of the admin part.
pub fn routes() -> Routes {
    Routes::new().merge(api::routes()).merge(pages::admin())
}
