//! Those who vanish: nobody waits for a client that will not be back.

use super::*;

/// Two clients in a call, as AppRTC's page sets it up.
fn call() -> World {
    let mut world = World::new();
    assert_eq!(world.joined("1"), (true, vec![]));
    world.register(1, "1").unwrap();
    world.message("1", "offer").unwrap();
    assert_eq!(world.joined("2"), (false, vec!["offer".into()]));
    world.register(2, "2").unwrap();
    world.send(2, "answer").unwrap();
    assert_eq!(world.sent(), ["1<answer"]);
    world
}

#[test]
fn a_hang_up_in_the_pages_order_frees_the_seat_before_the_other_hears_bye() {
    let mut world = call();
    world.leave("1");
    assert_eq!(world.seats(), ["2*+"]);
    world.send(1, BYE).unwrap();
    assert_eq!(world.sent(), [format!("2<{BYE}")], "bye once, by the one who left");
    world.message("2", "fresh offer").unwrap();
    world.close(1);
    world.delete("1");
    assert_eq!(world.joined("3"), (false, vec!["fresh offer".into()]));
    world.check();
}

#[test]
fn bye_before_leave_frees_the_seat_as_well() {
    let mut world = call();
    world.send(1, r#"{ "type" : "bye" }"#).unwrap();
    assert_eq!(world.seats(), ["2*+"]);
    world.message("2", "fresh offer").unwrap();
    world.sent();
    assert_eq!(world.joined("3"), (false, vec!["fresh offer".into()]), "it was not lost on the one who left");
    world.leave("1");
    world.close(1);
    assert_eq!(world.seats(), ["2*+", "3"]);
    assert_eq!(world.sent(), Vec::<String>::new());
    world.check();
}

#[test]
fn the_last_words_of_one_that_left_are_not_for_a_newcomer() {
    let mut world = call();
    world.leave("1");
    world.joined("3");
    world.register(3, "3").unwrap();
    world.send(1, BYE).unwrap();
    assert_eq!(world.sent(), [format!("2<{BYE}")]);
    world.send(3, "offer").unwrap();
    assert_eq!(world.sent(), ["2<offer"]);
}

#[test]
fn a_lost_socket_holds_its_seat_for_the_grace_then_leaves_room_and_all() {
    let mut world = call();
    world.close(2);
    assert_eq!(world.join("3"), Err(Refusal::RoomFull));
    world.pass(9_999);
    assert_eq!(world.join("3"), Err(Refusal::RoomFull));
    world.pass(1);
    assert_eq!(world.seats(), ["1*+"]);
    assert_eq!(world.message("2", "x"), Err(Refusal::UnknownClient));
    assert_eq!(world.sent(), Vec::<String>::new(), "their call may go on without signalling");
}

#[test]
fn when_a_lost_seat_is_taken_who_stayed_hears_bye_and_its_fresh_offer_is_not_stale() {
    let mut world = call();
    world.close(2);
    world.message("1", "late candidate").unwrap();
    world.pass(10_000);
    world.message("1", "later candidate").unwrap();
    assert_eq!(world.joined("3"), (false, vec![]), "candidates of the lost call are worth nothing");
    assert_eq!(world.sent(), [format!("1<{BYE}")]);
    world.message("1", "fresh offer").unwrap();
    world.register(3, "3").unwrap();
    assert_eq!(world.sent(), ["3<fresh offer"]);
    world.check();
}

#[test]
fn a_lost_client_that_comes_back_before_anyone_else_resumes_in_silence() {
    let mut world = call();
    world.close(2);
    world.pass(10_000);
    world.register(3, "2").unwrap();
    assert_eq!(world.seats(), ["1*+", "2+"]);
    world.send(3, "again").unwrap();
    assert_eq!(world.sent(), ["1<again"]);
    world.close(3);
    world.pass(10_000);
    // It was no client of `/join` the second time: nobody waits for its offer.
    world.joined("4");
    assert_eq!(world.sent(), Vec::<String>::new());
}

#[test]
fn both_lose_their_sockets_and_the_room_ends_with_the_grace() {
    let mut world = call();
    world.close(1);
    world.pass(1);
    world.close(2);
    world.pass(9_999);
    assert_eq!(world.seats(), ["2*"]);
    world.pass(1);
    assert!(world.is_empty());
    world.check();
}

#[test]
fn a_page_known_to_be_closed_is_gone_at_once_and_the_other_is_told() {
    let mut world = call();
    world.rooms.closed(world.now_ms, SocketId(1), true);
    assert_eq!(world.seats(), ["2*+"]);
    assert_eq!(world.sent(), [format!("2<{BYE}")]);
}

#[test]
fn a_leave_without_a_word_is_told_when_the_socket_closes() {
    let mut world = call();
    world.leave("1");
    assert_eq!(world.sent(), Vec::<String>::new());
    world.close(1);
    assert_eq!(world.sent(), [format!("2<{BYE}")]);
}

#[test]
fn who_left_and_keeps_its_socket_open_loses_it_with_the_grace() {
    let mut world = call();
    world.leave("1");
    world.pass(9_999);
    assert_eq!(world.sent(), Vec::<String>::new());
    world.pass(1);
    assert_eq!(world.sent(), ["1!1000".into(), format!("2<{BYE}")]);
    world.check();
}

#[test]
fn whoever_could_not_be_told_is_told_when_the_seat_is_taken() {
    let mut world = call();
    world.close(1);
    world.leave("2");
    world.close(2);
    world.joined("3");
    world.register(3, "3").unwrap();
    world.send(3, "hello").unwrap();
    world.register(4, "1").unwrap();
    assert_eq!(world.sent(), [format!("4<{BYE}"), "4<hello".into()]);
    world.check();
}

#[test]
fn a_tab_closed_while_it_joined_holds_its_seat_for_a_minute_only() {
    let mut world = World::new();
    world.joined("1");
    world.pass(59_999);
    assert_eq!(world.seats(), ["1*"]);
    world.pass(1);
    assert!(world.is_empty());
}

#[test]
fn a_client_without_a_socket_stays_as_long_as_it_talks() {
    let mut world = World::with(|limits| limits.socketless_ms = 3_600_000);
    world.joined("1");
    for _ in 0..5 {
        world.message("1", "still here").unwrap();
        world.pass(3_599_999);
    }
    assert_eq!(world.seats(), ["1*"]);
    world.pass(1);
    assert!(world.is_empty());
}

#[test]
fn one_that_took_the_offer_and_vanished_does_not_leave_the_next_without_one() {
    let mut world = World::new();
    world.joined("1");
    world.register(1, "1").unwrap();
    world.message("1", "offer").unwrap();
    assert_eq!(world.joined("2").1, ["offer"]);
    world.message("1", "candidate").unwrap();
    world.pass(60_000);
    assert_eq!(world.seats(), ["1*+"]);
    assert_eq!(world.joined("3"), (false, vec![]));
    assert_eq!(world.sent(), [format!("1<{BYE}")]);
}

#[test]
fn who_says_bye_and_talks_again_did_not_leave() {
    let mut world = call();
    world.send(1, BYE).unwrap();
    assert_eq!(world.seats(), ["2*+"]);
    world.send(1, "offer").unwrap();
    world.send(2, "answer").unwrap();
    assert_eq!(world.sent(), [format!("2<{BYE}"), "2<offer".into(), "1<answer".into()]);
    assert_eq!(world.seats(), ["1+", "2*+"]);
    world.pass(3_600_000);
    assert_eq!(world.seats(), ["1+", "2*+"]);
    world.check();
}

#[test]
fn bye_goes_both_ways() {
    let mut world = call();
    world.send(1, BYE).unwrap();
    world.send(2, BYE).unwrap();
    assert_eq!(world.sent(), [format!("2<{BYE}"), format!("1<{BYE}")]);
    world.close(1);
    world.close(2);
    assert!(world.is_empty());
    world.check();
}

#[test]
fn as_many_may_be_leaving_as_there_are_seats() {
    let mut world = World::new();
    for n in 1..=5 {
        let name = n.to_string();
        world.joined(&name);
        world.register(n, &name).unwrap();
        world.leave(&name);
        world.check();
    }
    assert_eq!(world.sent(), ["1!1000", "2!1000", "3!1000"]);
}

#[test]
fn bye_is_told_to_those_who_can_hear_it_and_know_it() {
    // Who never had a socket finds out in its own way, and what it says afterwards is meant.
    let mut world = World::new();
    world.joined("1");
    world.joined("2");
    world.leave("2");
    world.message("1", "fresh offer").unwrap();
    assert_eq!(world.joined("3").1, ["fresh offer"]);
    // Who came by Collider alone speaks a language of its own.
    let mut world = World::new();
    world.register(1, "1").unwrap();
    world.joined("2");
    world.leave("2");
    assert_eq!(world.sent(), Vec::<String>::new());
}

#[test]
fn what_waited_for_one_that_joined_is_for_nobody_else() {
    let mut world = call();
    world.close(2);
    world.message("1", "late candidate").unwrap();
    world.pass(10_000);
    world.register(3, "3").unwrap();
    assert_eq!((world.sent(), world.queued()), (vec![], 0));
}

#[test]
fn bye_to_nobody_does_not_wait_and_takes_along_what_did() {
    let mut world = World::with(|limits| limits.queue_len = 1);
    world.joined("1");
    world.message("1", "old offer").unwrap();
    assert_eq!(world.message("1", BYE), Ok(()), "it needs no place in the queue");
    assert_eq!(world.rooms.counts().queued_bytes, 0);
    world.message("1", "new offer").unwrap();
    assert_eq!(world.joined("2").1, ["new offer"]);
}

#[test]
fn what_is_said_after_leaving_waits_for_nobody() {
    let mut world = World::new();
    world.joined("1");
    world.register(1, "1").unwrap();
    world.leave("1");
    world.send(1, "x").unwrap();
    assert_eq!(world.rooms.counts().queued_bytes, 0);
}

#[test]
fn what_is_said_when_the_other_said_bye_waits_for_the_next_alone() {
    let mut world = World::new();
    world.joined("1");
    world.joined("2");
    world.message("1", BYE).unwrap();
    world.message("2", "fresh offer").unwrap();
    assert_eq!(world.queued(), 2, "bye for the one, the offer for whoever comes");
    assert_eq!(world.joined("3").1, ["fresh offer"]);
    assert_eq!(world.register(1, "1"), Err(Refusal::RoomFull), "its seat is taken");
    assert_eq!(world.register(2, "2"), Ok(()));
}

#[test]
fn a_bye_taken_back_does_not_count_when_its_client_vanishes() {
    let mut world = call();
    world.send(1, BYE).unwrap();
    world.send(1, "offer").unwrap();
    world.sent();
    world.close(1);
    world.pass(10_000);
    world.joined("3");
    assert_eq!(world.sent(), [format!("2<{BYE}")]);
}
