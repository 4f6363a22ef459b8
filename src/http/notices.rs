//! Notices in words: what begins, ends and is refused, for people to read.

use super::{Shared, events};
use crate::bus::Notice;
use crate::turn::allocation::{Account, Traffic};
use crate::turn::auth::Refused;
use crate::turn::request::method_name;
use crate::turn::{Answer, EndReason, RelayedAddr};
use crate::wire::stun::Method;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::MissedTickBehavior;
use utoipa::ToSchema;

/// How often notices are read.
const PERIOD: Duration = Duration::from_millis(250);
/// Notices that are kept, and told at a time: of more than these the oldest are passed over.
pub const KEPT: usize = 256;

/// The rule by which a draining server refuses, and the word for it.
const DRAINING: &str = "draining";

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A session began.
    Created,
    /// A session ended.
    Ended,
    /// A request was refused.
    Refused,
}

/// A notice as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Told {
    /// What it is about.
    pub kind: Kind,
    /// When it was read, in seconds since 1970.
    pub at_unix_s: u64,
    /// The session's name; none for a refusal.
    pub id: Option<String>,
    /// Who: the account that pays, or the name a refused request bore. Text from the network.
    pub user: Option<String>,
    /// The client's address and port.
    pub client: String,
    /// What happened, in words.
    #[schema(example = "401: credential expired 12 s ago")]
    pub text: String,
}

/// Reads notices for as long as the plane runs, keeps the last ones, and tells those who listen.
pub async fn tend(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let waiting = shared.workers.notices.len();
        // Those that come meanwhile are read the next time, so a flood of them ends here.
        let fresh: Vec<Notice> = shared.workers.notices.try_iter().take(waiting).collect();
        if fresh.is_empty() {
            continue;
        }
        let at_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let passed_over = fresh.len().saturating_sub(KEPT);
        let told: Vec<Arc<Told>> =
            fresh[passed_over..].iter().map(|notice| Arc::new(tell(notice, at_unix_s))).collect();
        {
            let mut kept = shared.watch.notices.lock();
            kept.extend(told.iter().cloned());
            let surplus = kept.len().saturating_sub(KEPT);
            kept.drain(..surplus);
        }
        events::tell_notices(&shared.watch.audience, &told);
    }
}

fn tell(notice: &Notice, at_unix_s: u64) -> Told {
    let payer = |account: &Account| Some(account.payer.as_ref().to_owned()).filter(|payer| !payer.is_empty());
    match notice {
        Notice::Created { id, account, tuple, relayed } => Told {
            kind: Kind::Created,
            at_unix_s,
            id: Some(id.to_string()),
            user: payer(account),
            client: tuple.client.to_string(),
            text: format!("created over {}: {}", tuple.transport.name().to_uppercase(), addresses(relayed)),
        },
        Notice::Ended { id, account, tuple, reason, traffic, age_ms } => Told {
            kind: Kind::Ended,
            at_unix_s,
            id: Some(id.to_string()),
            user: payer(account),
            client: tuple.client.to_string(),
            text: end_in_words(*reason, traffic, *age_ms),
        },
        Notice::Refused { tuple, username, answer } => Told {
            kind: Kind::Refused,
            at_unix_s,
            id: None,
            user: username.as_deref().map(str::to_owned),
            client: tuple.client.to_string(),
            text: refusal_in_words(*answer),
        },
    }
}

fn addresses(relayed: &[Option<RelayedAddr>; 2]) -> String {
    let addresses: Vec<String> = relayed.iter().flatten().map(RelayedAddr::to_string).collect();
    addresses.join(" and ")
}

fn end_in_words(reason: EndReason, traffic: &Traffic, age_ms: u64) -> String {
    let what = match reason {
        EndReason::Expired => "expired",
        EndReason::Deleted => "deleted by the client",
        EndReason::Disconnected => "client disconnected",
        EndReason::Closed => "closed by the server",
        EndReason::Revoked => "its user was revoked",
        EndReason::Quota => "the bytes of its credential are used up",
    };
    let (to_peers, to_client) = (bytes_in_words(traffic.to_peer_bytes), bytes_in_words(traffic.to_client_bytes));
    format!("ended: {what} after {}, {to_peers} to peers, {to_client} to the client", time_in_words(age_ms / 1000))
}

fn refusal_in_words(answer: Answer) -> String {
    let why = match (answer.code, answer.credential) {
        (_, Some(Refused::Unknown)) => "unknown user".into(),
        (_, Some(Refused::Password)) => "wrong password".into(),
        (_, Some(Refused::Expired(ago_s))) => format!("credential expired {} ago", time_in_words(ago_s)),
        (_, Some(Refused::TooFar)) => "expiry too far ahead".into(),
        (_, Some(Refused::Revoked)) => "user revoked".into(),
        (300, None) => "sent to another server, draining".into(),
        (400, None) => "malformed request".into(),
        (401, None) => "no credential".into(),
        (403, None) if answer.method == Method::ALLOCATE => "client denied by policy".into(),
        (403, None) => "peer denied by policy".into(),
        (420, None) => "unknown attribute".into(),
        (437, None) if answer.method == Method::ALLOCATE => "there is an allocation already".into(),
        (437, None) => "there is no allocation".into(),
        (438, None) => "stale nonce".into(),
        (440, None) => "no relay address of this family".into(),
        (441, None) => "the allocation is another user's".into(),
        (442, None) => "transport to peers not supported".into(),
        (443, None) => "the peer is of another family than the relayed address".into(),
        (486, None) => "quota reached".into(),
        (508, None) if answer.rule == Some(DRAINING) => DRAINING.into(),
        (508, None) if answer.rule.is_some() => "a limit reached".into(),
        (508, None) => "no port left, or a limit reached, or draining".into(),
        (_, None) => "refused".to_owned(),
    };
    let denied = answer.denied.map(|denial| denial.to_string());
    let rule = denied.or_else(|| answer.rule.filter(|rule| *rule != DRAINING).map(str::to_owned));
    let rule = rule.map(|rule| format!(" [{rule}]")).unwrap_or_default();
    format!("{}: {why}{rule} ({})", answer.code, method_name(answer.method))
}

/// `12 s`, `10 m 3 s`, `2 h 5 m`, `3 d 4 h`.
fn time_in_words(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} m {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} m", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// `0 bytes`, `999 bytes`, `1.2 kB`, `3.4 MB`.
fn bytes_in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be written as 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::SessionId;
    use crate::turn::{AllocationId, ClientAddr, FiveTuple, Transport};

    fn refused(method: Method, code: u16, credential: Option<Refused>) -> String {
        refusal_in_words(Answer { credential, ..Answer::new(method, code) })
    }

    #[test]
    fn refusals_are_said_in_words() {
        let allocate = |code, credential| refused(Method::ALLOCATE, code, credential);
        assert_eq!(allocate(401, Some(Refused::Expired(12))), "401: credential expired 12 s ago (allocate)");
        assert_eq!(allocate(401, Some(Refused::Password)), "401: wrong password (allocate)");
        assert_eq!(allocate(401, Some(Refused::Unknown)), "401: unknown user (allocate)");
        assert_eq!(allocate(401, Some(Refused::TooFar)), "401: expiry too far ahead (allocate)");
        assert_eq!(allocate(401, Some(Refused::Revoked)), "401: user revoked (allocate)");
        assert_eq!(allocate(300, None), "300: sent to another server, draining (allocate)");
        let ruled = |code, rule| refusal_in_words(Answer { rule: Some(rule), ..Answer::new(Method::ALLOCATE, code) });
        assert_eq!(ruled(508, "draining"), "508: draining (allocate)");
        assert_eq!(ruled(508, "relay.ports"), "508: a limit reached [relay.ports] (allocate)");
        let limit = "limits.allocations_per_user";
        assert_eq!(ruled(486, limit), "486: quota reached [limits.allocations_per_user] (allocate)");
        assert_eq!(allocate(486, None), "486: quota reached (allocate)");
        assert_eq!(allocate(437, None), "437: there is an allocation already (allocate)");
        assert_eq!(refused(Method::CREATE_PERMISSION, 403, None), "403: peer denied by policy (create_permission)");
        assert_eq!(refused(Method::REFRESH, 437, None), "437: there is no allocation (refresh)");
        assert_eq!(refused(Method::REFRESH, 599, None), "599: refused (refresh)");
        for code in crate::stats::CODES.into_iter().filter(|code| *code >= 400) {
            assert!(!allocate(code, None).contains("refused"), "{code} has words of its own");
        }
    }

    #[test]
    fn an_end_is_said_in_words() {
        let account = Account { username: (*b"1:x").into(), payer: "x".into() };
        let client = ClientAddr(([192, 0, 2, 1], 4000).into());
        let tuple = FiveTuple { client, server: ([192, 0, 2, 9], 3478).into(), transport: Transport::Udp };
        let id = SessionId { worker: 1, allocation: AllocationId { index: 2, generation: 3 } };
        let traffic = Traffic { to_peer_bytes: 1_234_567, to_client_bytes: 3_400, ..Traffic::default() };
        let told = tell(
            &Notice::Ended { id, account, tuple, reason: EndReason::Expired, traffic, age_ms: 603_999 },
            1_700_000_000,
        );
        let text = "ended: expired after 10 m 3 s, 1.2 MB to peers, 3.4 kB to the client".into();
        let (id, user, client) = (Some("1-2-3".into()), Some("x".into()), "192.0.2.1:4000".into());
        assert_eq!(told, Told { kind: Kind::Ended, at_unix_s: 1_700_000_000, id, user, client, text });
    }

    #[test]
    fn numbers_have_fitting_units() {
        assert_eq!([0, 59, 60, 3_599].map(time_in_words), ["0 s", "59 s", "1 m 0 s", "59 m 59 s"]);
        assert_eq!([3_600, 86_399, 90_000].map(time_in_words), ["1 h 0 m", "23 h 59 m", "1 d 1 h"]);
        assert_eq!([0, 999, 1_000, 999_949].map(bytes_in_words), ["0 bytes", "999 bytes", "1.0 kB", "999.9 kB"]);
        assert_eq!([999_950, 1 << 60].map(bytes_in_words), ["1.0 MB", "1152.9 PB"]);
    }
}
