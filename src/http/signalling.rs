//! Rooms on the wire: AppRTC's room server and Collider.

use super::Routes;

/// The rooms, and the sockets of those who are in them.
#[derive(Default)]
pub struct Hub {}

/// `/join`, `/message`, `/leave`, `/bye`, `/params`, `/a/`, `/ws`, `/status`, `/collider/…` and Collider's root form.
pub fn routes() -> Routes {
    Routes::new()
}
