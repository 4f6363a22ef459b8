//! `/api/v1/events`: what happens, as server-sent events.
