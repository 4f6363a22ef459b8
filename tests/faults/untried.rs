//! What a machine does not let a test try: that is said, and where everything has to be tried it is a failure.

use std::io::Write;

/// Says, past the capture of the test's output, that something could not be tried on this machine.
pub fn not_tried(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "NOT TRIED: {what}: {why}");
    let may_skip = std::env::var("CI").is_err() || std::env::var("TURNPIKE_FAULTS_MAY_SKIP").is_ok();
    assert!(may_skip, "{what} must be tried here, unless TURNPIKE_FAULTS_MAY_SKIP is set: {why}");
}
