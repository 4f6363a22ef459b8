//! The body of a request: complete before anyone looks at it, short enough, and in time.

use super::cors;
use super::guard::Problem;
use super::intake::Deadlines;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use bytes::BytesMut;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Bytes of a body.
pub const BODY_MAX: usize = 64 * 1024;
/// Bytes of a body that asks for credentials.
pub const CREDENTIALS_BODY_MAX: usize = 4 * 1024;
/// Bytes a second that a body comes with at least, once its grace is over.
pub const BODY_RATE_MIN: u32 = 1024;
/// First segments of the paths where credentials are asked for.
const CREDENTIAL_PATHS: &[&str] = &["turn", "v1alpha", "v1"];

/// Waits for the whole body, within its limits.
pub async fn complete(request: Request, deadlines: Deadlines) -> Result<Request, Problem> {
    let max = match CREDENTIAL_PATHS.contains(&cors::first_segment(request.uri().path())) {
        true => CREDENTIALS_BODY_MAX,
        false => BODY_MAX,
    };
    let too_large = || {
        let detail = format!("the body is longer than {max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    };
    // A length that is told need not be waited for.
    let told = request.headers().get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|len| len > max as u64) {
        return Err(too_large());
    }
    let (parts, body) = request.into_parts();
    let (mut body, mut bytes) = (pin!(Limited::new(body, max)), BytesMut::new());
    let start = Instant::now();
    loop {
        match timeout_at(start + allowed(bytes.len(), deadlines), body.frame()).await {
            // Trailers mean nothing here.
            Ok(Some(Ok(frame))) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Ok(None) => return Ok(Request::from_parts(parts, Body::from(bytes.freeze()))),
            Ok(Some(Err(error))) if error.is::<LengthLimitError>() => return Err(too_large()),
            Ok(Some(Err(_))) => {
                return Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the body is not complete"));
            }
            Err(_) => {
                let detail = "the body did not come in time";
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail));
            }
        }
    }
}

/// How long a body may take of which so many bytes have come: its grace, and the time that they are worth.
fn allowed(len: usize, deadlines: Deadlines) -> Duration {
    let earned = Duration::from_secs(1).mul_f64(len as f64 / f64::from(BODY_RATE_MIN));
    (deadlines.body_grace + earned).min(deadlines.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_grace_a_second_for_each_kib_and_never_more_than_its_deadline() {
        let seconds = |len| allowed(len, Deadlines::default()).as_secs_f64();
        assert_eq!(seconds(0), 5.0);
        assert_eq!(seconds(512), 5.5);
        assert_eq!(seconds(5 * 1024), 10.0);
        assert_eq!(seconds(BODY_MAX), 10.0);
    }
}
