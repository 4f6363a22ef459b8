//! Clocks that jump, and numbers near the end of their range.

use super::call::{CHANNEL, Call, WATCHED};
use super::client::Caller;
use super::link::{PATIENCE, Via};
use super::ports::LOOPBACK;
use super::server::{Scratch, Server};
use super::untried::not_tried;
use crate::wire_client::{
    Client, Outcome, SECRET, World, allocate, bind, channel, peer, permit, refresh, rest_password, udp,
};
use std::fs;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use turnpike::turn::{DropReason, Now, Server as Core, Verdict};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// The library that shows a program another wall clock, where Debian's package has it.
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.map_while(Result::ok).map(|entry| entry.path());
    let known = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    known.chain([PathBuf::from("/usr/lib/faketime/libfaketimeMT.so.1")]).find(|path| path.exists())
}

/// Allocates with a time-limited credential that is good until then; the code.
fn ask_until(server: &Server, unix_s: i64) -> (Caller, u16) {
    let name = format!("{unix_s}:carol");
    let password = rest_password(&name);
    let mut caller = Caller::as_user((&name, &password), Via::Udp, server.addr("udp", LOOPBACK[0]));
    let code = caller.ask(allocate()).code();
    (caller, code)
}

// FI-09. The clock that lifetimes are measured by is another one; only what is written as a date depends on this.
#[test]
fn a_wall_clock_that_jumps_changes_nothing_but_dates() {
    let Some(library) = faketime() else {
        return not_tried("a wall clock that jumps", "libfaketime is not installed");
    };
    let scratch = Scratch::new();
    let file = scratch.path("clock");
    let shift = |text: &str| fs::write(&file, text).expect("the file is written");
    shift("+0\n");
    let wrapper = [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let secret = format!("auth.secrets=[\"{}\"]", str::from_utf8(SECRET).expect("it is text"));
    let server = Server::by(&wrapper.each_ref().map(String::as_str), &["workers=2", WATCHED, &secret]);
    let now_s = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs() as i64;
    let mut call = Call::begin(&server, Via::Udp);
    let (mut carol, code) = ask_until(&server, now_s() + 600);
    assert_eq!(code, 0);
    for (shown, shift_s) in [("-1d", -DAY_S), ("+1d", DAY_S), ("+10y", 10 * 365 * DAY_S), ("+0", 0)] {
        shift(&format!("{shown}\n"));
        let end = Instant::now() + PATIENCE;
        while ask_until(&server, now_s() + shift_s + 600).1 != 0 {
            assert!(Instant::now() < end, "{shown}: the new date does not count");
        }
        if shift_s != 0 {
            assert_eq!(ask_until(&server, now_s() + 600).1, 401, "{shown}: it has expired, or is too far ahead");
        }
        // Without a challenge: the nonce is as good as before.
        for caller in [&mut call.caller, &mut carol] {
            let request = caller.sign(refresh(600));
            let reply = caller.exchange(&request);
            assert_eq!(reply.code(), 0, "{shown}: the allocation and its nonce are as they were");
        }
        call.exchange(20);
    }
    server.stop();
}

/// A world whose clocks show this.
fn world_at(mono_ms: u64, unix_s: u64) -> World {
    let mut world = World::new();
    let now = Now { mono_ms, unix_s };
    world.server = Core::new(std::sync::Arc::new(world.config.clone()), now, 42);
    (world.mono_ms, world.unix_ms) = (mono_ms, unix_s * 1_000);
    world
}

/// An allocation with a permission and a channel lives as long as it should and not longer, across this moment.
fn lives_across(mut world: World) {
    let at = world.mono_ms;
    let alice = world.allocated();
    let other = peer("8.8.8.8:7000");
    world.succeed(&alice, permit(&[other]));
    world.succeed(&alice, bind(CHANNEL, other));
    let relays = |world: &mut World, alice: &Client| {
        let there = world.deliver(&alice.sender, &channel(CHANNEL, b"there"));
        let back = world.hear(alice, other, 5);
        matches!(there, Outcome::Relayed(Verdict::ToPeer { .. })) && matches!(back, Verdict::ToClient { .. })
    };
    assert!(relays(&mut world, &alice), "at {at} ms");
    for _ in 0..4 {
        world.pass_s(60);
        assert!(relays(&mut world, &alice), "at {} ms", world.mono_ms);
        world.succeed(&alice, refresh(600));
    }
    // The permission ends 300 s after it was installed; the channel, which renews nothing now, after 600 s.
    world.pass_s(300);
    assert_eq!(world.hear(&alice, other, 5), Verdict::Drop(DropReason::NoPermission), "at {} ms", world.mono_ms);
    world.pass_s(299);
    assert!(world.find(&alice).is_some(), "at {} ms", world.mono_ms);
    world.pass_s(2);
    assert!(world.find(&alice).is_none(), "at {} ms", world.mono_ms);
}

// FI-30: 2^32 ms are 49 days of running, 2^31 and 2^32 s are 2038 and 2106.
#[test]
fn clocks_that_pass_the_end_of_a_word_change_nothing() {
    let usual_s = 1_893_400_000;
    for mono_ms in [0, (1 << 31) - 90_000, (1 << 32) - 90_000, (1 << 53) - 90_000, (1 << 63) - 90_000] {
        lives_across(world_at(mono_ms, usual_s));
    }
    for unix_s in [(1 << 31) - 90, (1 << 32) - 90] {
        lives_across(world_at(1_000_000, unix_s));
        let mut world = world_at(1_000_000, unix_s);
        let name = format!("{}:carol", unix_s + 180);
        let password = rest_password(&name);
        let carol = world.login(udp("198.51.100.9:4000"), (&name, &password));
        assert_eq!(world.code(&carol, allocate()), 0, "good until {name}");
        world.pass_s(181);
        let late = world.login(udp("198.51.100.9:4001"), (&name, &password));
        assert_eq!(world.code(&late, allocate()), 401, "no longer good");
    }
}
