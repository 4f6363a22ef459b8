//! How far a server's clock is from this host's: found out by when it takes credentials for expired.
//!
//! A time-limited credential is good while the server's clock is below the time in its user name. A Refresh where there
//! is no allocation shows whether a credential is good (437) or not (401), and allocates nothing. The search is pure.

use super::desk::Desk;
use super::report::{Outcome, Skew, Step, Target};
use super::trial::way_to;
use super::words::{self, Fault};
use super::{Config, Identity, nobody};
use crate::load::client;
use crate::load::link::Transport;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

/// Between clocks that are kept by NTP there is less, in seconds.
const AGREE_S: i64 = 30;
/// As far as the search goes, in seconds.
const REACH_S: i64 = 2 * 86_400;
/// Steps of the search for a credential that is good; a server takes none that is good for longer than `auth.max_ttl`.
const STRIDE_S: i64 = 12 * 3600;
/// Far enough for any clock that is ahead, where long credentials are taken.
const AGES_S: i64 = 10 * 365 * 86_400;

/// What the server's clock says.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The step of the trial.
    pub step: Step<Skew>,
    /// Why the server refused a credential, as far as its clock tells.
    pub refusal: Option<String>,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The server's clock is so many seconds ahead.
    Ahead(i64),
    /// It takes no credential at all.
    Nothing,
    /// Its clock is further behind than the search goes, or it does not mind the time.
    FarBehind,
}

/// Finds how far a clock is ahead, in seconds, by asking whether a credential that ends so many seconds from now is good.
///
/// # Errors
/// The first of `is_good`.
pub fn search<E>(mut is_good: impl FnMut(i64) -> Result<bool, E>) -> Result<Found, E> {
    let (mut refused, mut good);
    if is_good(AGREE_S)? {
        good = AGREE_S;
        refused = -AGREE_S;
        while is_good(refused)? {
            good = refused;
            if refused <= -REACH_S {
                return Ok(Found::FarBehind);
            }
            refused = (2 * refused).max(-REACH_S);
        }
    } else {
        let Some(found) = first_good(&mut is_good)? else { return Ok(Found::Nothing) };
        good = found;
        // Below a good one that is refused at AGREE_S, that one is over; above, the server's limit is what refuses it.
        refused = AGREE_S;
        while refused > good {
            let lower = good - STRIDE_S;
            if !is_good(lower)? {
                refused = lower;
            } else {
                good = lower;
            }
            if lower < -2 * REACH_S {
                return Ok(Found::FarBehind);
            }
        }
    }
    // INVARIANT: `refused` is over by the server's clock, `good` is not.
    while good - refused > 1 {
        let middle = refused + (good - refused) / 2;
        if is_good(middle)? {
            good = middle;
        } else {
            refused = middle;
        }
    }
    Ok(Found::Ahead(refused))
}

/// A credential that is good, looked for further and further off.
fn first_good<E>(is_good: &mut impl FnMut(i64) -> Result<bool, E>) -> Result<Option<i64>, E> {
    let near = (1..=REACH_S / STRIDE_S).flat_map(|n| [n * STRIDE_S, -n * STRIDE_S]);
    for offset in near.chain([AGES_S]) {
        if is_good(offset)? {
            return Ok(Some(offset));
        }
    }
    Ok(None)
}

/// Asks a server that was reached.
pub fn read(config: &Config, identity: &Identity, stop: &AtomicBool, target: &Target) -> io::Result<Reading> {
    let (Some(ask), Some(server)) = (&target.ask, target.server) else {
        return Ok(Reading { step: Step::skip("not tried"), refusal: None });
    };
    let transport = way_to(config, &ask.uri).map_err(io::Error::other)?;
    let mut desk = Desk::new(config.timeout, stop)?;
    let found = search(|offset_s| is_good(&mut desk, &transport, server, identity, offset_s));
    Ok(match found {
        Ok(found) => reading(found),
        Err(fault) => {
            let reason = words::answer("Refresh", server, &fault, config.timeout);
            Reading { step: Step::skip(format!("not measured: {reason}")), refusal: None }
        }
    })
}

/// Whether the server takes a credential that ends so many seconds from now. Each goes by a way of its own: servers
/// mind a change of user on one.
fn is_good(
    desk: &mut Desk<'_>,
    transport: &Transport,
    server: SocketAddr,
    identity: &Identity,
    offset_s: i64,
) -> Result<bool, Fault> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let account = identity.expiring(now_s.saturating_add_signed(offset_s)).unwrap_or_else(nobody);
    let mut client = desk.client(transport, server)?;
    desk.ask(&mut client, client::Step::Challenge, &account)?;
    match desk.ask(&mut client, client::Step::Refresh, &account) {
        Ok(_) => Ok(true),
        Err(Fault::Refused(refused)) => match refused.code {
            437 => Ok(true),
            401 | 441 => Ok(false),
            _ => Err(Fault::Refused(refused)),
        },
        Err(fault) => Err(fault),
    }
}

/// A finding in words.
pub fn reading(found: Found) -> Reading {
    match found {
        Found::Ahead(ahead_s) if ahead_s.abs() <= AGREE_S => Reading {
            step: Step::pass(Skew { ahead_s }),
            refusal: Some(
                "Allocate is refused (401), though the secret is the server's and the clocks agree: it may take only \
                 credentials that end sooner (auth.max_ttl), or this user id is revoked or limited there"
                    .to_owned(),
            ),
        },
        Found::Ahead(ahead_s) => {
            let (far, effect) = (spell(ahead_s.unsigned_abs()), if ahead_s > 0 { "shorter" } else { "longer" });
            let side = if ahead_s > 0 { "ahead of" } else { "behind" };
            let skew = format!("the server's clock is {far} {side} this machine's: set both by NTP");
            Reading {
                step: Step::warn(
                    Some(Skew { ahead_s }),
                    format!("{skew}; credentials minted here are good for {far} {effect} there"),
                ),
                refusal: Some(format!("Allocate is refused (401): {skew}")),
            }
        }
        Found::Nothing => Reading {
            step: Step::skip("not measured: no credential is taken"),
            refusal: Some(
                "Allocate is refused (401): the secret is not the server's (credentials that end at other times are \
                 refused as well, so it is not its clock)"
                    .to_owned(),
            ),
        },
        Found::FarBehind => Reading {
            step: Step {
                outcome: Outcome::Warn,
                reason: Some(
                    "the server takes credentials that ended two days ago: its clock is far behind this machine's, or it \
                     does not mind when they end"
                        .to_owned(),
                ),
                found: None,
            },
            refusal: None,
        },
    }
}

fn spell(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server whose clock is ahead and that takes credentials up to a length.
    fn server(ahead_s: i64, max_ttl_s: i64) -> (Found, u32) {
        let mut asked = 0;
        let found = search(|offset| {
            asked += 1;
            Ok::<_, ()>(offset > ahead_s && offset - ahead_s <= max_ttl_s)
        });
        (found.unwrap(), asked)
    }

    #[test]
    fn any_clock_within_two_days_is_found_to_a_second() {
        for max_ttl_s in [86_400, i64::MAX / 2] {
            for ahead_s in [0, 1, -1, 29, 30, 31, -30, -31, 600, -600, 3600, -7200, 80_000, -80_000, 150_000] {
                let (found, asked) = server(ahead_s, max_ttl_s);
                assert_eq!(found, Found::Ahead(ahead_s), "{ahead_s} {max_ttl_s}");
                assert!(asked < 45, "{asked} for {ahead_s}");
            }
        }
        assert_eq!(server(-150_000, 86_400).0, Found::Ahead(-150_000));
        assert_eq!(server(0, 600).0, Found::Ahead(0));
        assert!(server(0, 86_400).1 <= 8, "clocks that agree cost few questions");
    }

    #[test]
    fn a_wrong_secret_is_told_from_a_wrong_clock() {
        let mut asked = 0;
        let found = search(|_| {
            asked += 1;
            Ok::<_, ()>(false)
        });
        assert_eq!((found, asked), (Ok(Found::Nothing), 10));
        let wrong = reading(Found::Nothing).refusal.unwrap();
        assert!(wrong.contains("the secret is not the server's"), "{wrong}");
        let ahead = reading(Found::Ahead(7200));
        assert!(ahead.refusal.unwrap().contains("2 h ahead of this machine's: set both by NTP"));
        assert_eq!(ahead.step.outcome, Outcome::Warn);
        assert!(reading(Found::Ahead(-61)).step.reason.unwrap().contains("61 s behind this machine's"));
        assert!(reading(Found::Ahead(2)).refusal.unwrap().contains("max_ttl"));
        assert_eq!(reading(Found::Ahead(-30)).step.outcome, Outcome::Pass);
    }

    #[test]
    fn a_server_that_does_not_mind_the_time_ends_the_search() {
        assert_eq!(search(|_| Ok::<_, ()>(true)), Ok(Found::FarBehind));
        assert_eq!(search(|_| Err::<bool, _>("gone")), Err("gone"));
    }
}
