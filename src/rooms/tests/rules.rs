//! AppRTC's rules, Collider's own checklist, and every limit at its brink.

use super::*;

// --- AppRTC

#[test]
fn the_first_to_join_is_the_initiator_and_the_third_finds_it_full() {
    let mut world = World::new();
    assert_eq!(world.joined("1"), (true, vec![]));
    assert_eq!(world.joined("2"), (false, vec![]));
    assert_eq!(world.join("3"), Err(Refusal::RoomFull));
    assert_eq!(world.seats(), ["1*", "2"]);
    assert!(world.rooms.occupancy(&room("abc")).is_full);
    assert_eq!(world.rooms.occupancy(&room("other")).clients, 0);
}

#[test]
fn who_joins_second_gets_what_the_first_said_in_order_and_nobody_gets_it_again() {
    let mut world = World::new();
    world.joined("1");
    for text in ["a", "b", "c"] {
        world.message("1", text).unwrap();
    }
    assert_eq!(world.queued(), 3);
    assert_eq!(world.joined("2").1, ["a", "b", "c"]);
    assert_eq!(world.queued(), 0);
    world.leave("2");
    assert_eq!(world.joined("3").1, Vec::<String>::new());
}

#[test]
fn messages_of_strangers_are_refused() {
    let mut world = World::new();
    assert_eq!(world.message("1", "a"), Err(Refusal::UnknownRoom));
    world.joined("1");
    assert_eq!(world.message("2", "a"), Err(Refusal::UnknownClient));
}

#[test]
fn who_stays_becomes_the_initiator_and_the_last_takes_the_room_along() {
    let mut world = World::new();
    world.joined("1");
    world.joined("2");
    world.leave("1");
    assert_eq!(world.seats(), ["2*"]);
    assert_eq!(world.joined("3"), (false, vec![]));
    world.leave("nobody");
    world.leave("2");
    world.leave("3");
    assert!(world.is_empty());
    world.check();
}

#[test]
fn what_was_said_before_leaving_is_not_for_the_next() {
    let mut world = World::new();
    world.joined("1");
    world.message("1", "stale offer").unwrap();
    world.leave("1");
    assert_eq!(world.joined("2"), (true, vec![]));
}

#[test]
fn a_client_id_is_taken_once_a_room() {
    let mut world = World::new();
    world.joined("1");
    assert_eq!(world.join("1"), Err(Refusal::ClientTaken));
    assert!(world.rooms.join(0, &room("other"), client("1"), false).is_ok());
}

#[test]
fn a_loopback_room_is_full_at_once_and_its_socket_may_be_named_either_way() {
    for name in ["LOOPBACK_CLIENT_ID", "loopback_client_id"] {
        let mut world = World::new();
        assert!(world.rooms.join(world.now_ms, &room("abc"), client("1"), true).unwrap().is_initiator);
        assert_eq!(world.seats(), ["1*", "LOOPBACK_CLIENT_ID"]);
        assert_eq!(world.join("2"), Err(Refusal::RoomFull));
        world.message("1", "offer").unwrap();
        world.register(1, "1").unwrap();
        world.register(2, name).unwrap();
        assert_eq!(world.sent(), ["2<offer"]);
        world.send(2, "answer").unwrap();
        assert_eq!(world.sent(), ["1<answer"]);
        world.check();
        world.leave("1");
        assert_eq!(world.sent(), ["2!1000"]);
        assert_eq!(world.joined("3"), (true, vec![]), "{name}: the pseudo-client left with its owner");
        world.check();
    }
}

#[test]
fn only_an_empty_room_becomes_a_loopback_room() {
    let mut world = World::new();
    world.joined("1");
    assert!(!world.rooms.join(world.now_ms, &room("abc"), client("2"), true).unwrap().is_initiator);
    assert_eq!(world.seats(), ["1*", "2"]);
}

// --- Collider

#[test]
fn a_register_binds_a_socket_once() {
    let mut world = World::new();
    world.register(1, "1").unwrap();
    assert_eq!(world.seats(), ["1*+"]);
    assert_eq!(world.register(1, "1"), Err(Refusal::RegisteredTwice));
    assert_eq!(world.register(1, "2"), Err(Refusal::RegisteredTwice));
    assert_eq!(world.register(2, "1"), Err(Refusal::ClientBound));
    assert_eq!(world.sent(), ["1?"], "the bound socket is asked whether it lives");
    assert_eq!(world.seats(), ["1*+"]);
}

#[test]
fn the_same_client_is_the_same_member_and_the_third_is_too_many() {
    let mut world = World::new();
    world.joined("1");
    world.register(1, "1").unwrap();
    world.register(2, "2").unwrap();
    assert_eq!(world.seats(), ["1*+", "2+"]);
    assert_eq!(world.register(3, "3"), Err(Refusal::RoomFull));
    assert_eq!(world.post("3", "x"), Err(Refusal::RoomFull));
    assert_eq!(world.join("3"), Err(Refusal::RoomFull));
}

#[test]
fn what_is_said_reaches_the_other_or_waits_for_it_in_order() {
    let mut world = World::new();
    world.register(1, "1").unwrap();
    world.send(1, "a").unwrap();
    world.send(1, "b").unwrap();
    assert_eq!((world.sent(), world.queued()), (vec![], 2));
    world.register(2, "2").unwrap();
    assert_eq!((world.sent(), world.queued()), (vec!["2<a".into(), "2<b".into()], 0));
    world.send(2, "c").unwrap();
    world.post("1", "d").unwrap();
    assert_eq!((world.sent(), world.queued()), (vec!["1<c".into(), "2<d".into()], 0));
}

#[test]
fn only_the_registered_send() {
    let mut world = World::new();
    assert_eq!(world.send(1, "a"), Err(Refusal::NotRegistered));
    world.register(1, "1").unwrap();
    world.delete("1");
    assert_eq!(world.send(1, "a"), Err(Refusal::NotRegistered));
}

#[test]
fn a_post_makes_the_room_and_is_heard_by_the_next_to_register() {
    let mut world = World::new();
    world.post("456", "hello").unwrap();
    assert_eq!(world.seats(), ["456*"]);
    world.register(1, "123").unwrap();
    assert_eq!((world.sent(), world.queued()), (vec!["1<hello".into()], 0));
    world.post("456", "hello!").unwrap();
    assert_eq!(world.sent(), ["1<hello!"]);
}

#[test]
fn a_client_that_only_posts_is_gone_after_the_grace() {
    let mut world = World::new();
    world.post("1", "a").unwrap();
    world.pass(5_000);
    world.post("1", "b").unwrap();
    world.pass(4_999);
    assert_eq!(world.seats(), ["1*"]);
    world.pass(1);
    assert!(world.is_empty());
    assert_eq!(world.rooms.next_deadline(), None);
}

#[test]
fn a_delete_closes_and_removes() {
    let mut world = World::new();
    world.register(1, "1").unwrap();
    world.send(1, "a").unwrap();
    world.delete("1");
    assert_eq!(world.sent(), ["1!1000"]);
    assert!(world.is_empty());
    world.delete("1");
    world.close(1);
    world.check();
}

#[test]
fn a_closed_socket_leaves_its_client_for_the_grace_and_a_new_one_resumes() {
    let mut world = World::new();
    world.register(1, "1").unwrap();
    world.register(2, "2").unwrap();
    world.close(1);
    assert_eq!(world.seats(), ["1*", "2+"]);
    world.send(2, "while away").unwrap();
    world.pass(9_999);
    world.register(3, "1").unwrap();
    assert_eq!(world.sent(), ["3<while away"]);
    world.pass(3_600_000);
    assert_eq!(world.seats(), ["1*+", "2+"]);
    world.close(3);
    world.pass(10_000);
    assert_eq!(world.seats(), ["2*+"]);
}

#[test]
fn what_waited_for_one_that_never_joined_is_for_the_next_as_in_collider() {
    let mut world = World::new();
    world.register(1, "1").unwrap();
    world.post("2", "x").unwrap();
    world.send(1, "y").unwrap();
    world.pass(10_000);
    world.register(3, "3").unwrap();
    assert_eq!(world.sent(), ["1<x", "3<y"]);
}

#[test]
fn counts_tell_open_and_total_sockets() {
    let mut world = World::new();
    let open_and_total = |world: &World| (world.rooms.counts().sockets, world.rooms.counts().registrations_total);
    assert_eq!(open_and_total(&world), (0, 0));
    world.post("0", "x").unwrap();
    assert_eq!(open_and_total(&world), (0, 0));
    world.register(1, "0").unwrap();
    world.register(2, "2").unwrap();
    assert_eq!(open_and_total(&world), (2, 2));
    world.close(1);
    assert_eq!(open_and_total(&world), (1, 2));
    world.register(3, "0").unwrap();
    assert_eq!(open_and_total(&world), (2, 3));
    assert_eq!((world.rooms.counts().rooms, world.rooms.counts().clients), (1, 2));
}

// --- Limits

#[test]
fn a_thousand_and_twenty_four_messages_wait_and_one_more_does_not() {
    let mut world = World::new();
    world.register(1, "1").unwrap();
    for _ in 0..1024 {
        world.send(1, "x").unwrap();
    }
    assert_eq!(world.send(1, "x"), Err(Refusal::QueueFull));
    assert_eq!(world.post("1", "x").unwrap_err().to_string(), "Too many messages queued for the client");
    assert_eq!(world.queued(), 1024);
    world.register(2, "2").unwrap();
    assert_eq!(world.sent().len(), 1024);
    world.check();
}

#[test]
fn bytes_that_wait_are_limited_for_one_and_for_all() {
    let mut world = World::with(|limits| limits.queue_bytes = 10);
    world.register(1, "1").unwrap();
    world.send(1, "12345").unwrap();
    world.send(1, "67890").unwrap();
    assert_eq!(world.send(1, "1"), Err(Refusal::QueueFull));
    // A message costs its text and 64 bytes.
    let mut world = World::with(|limits| limits.queue_bytes_total = 2 * (64 + 10));
    world.register(1, "1").unwrap();
    world.send(1, "1234567890").unwrap();
    world.rooms.join(0, &room("other"), client("2"), false).unwrap();
    assert_eq!(world.rooms.message(0, &room("other"), &client("2"), "12345678901"), Err(Refusal::QueueFull));
    assert_eq!(world.rooms.message(0, &room("other"), &client("2"), "1234567890"), Ok(()));
    assert_eq!(world.send(1, "1"), Err(Refusal::QueueFull));
    world.delete("1");
    assert_eq!(world.rooms.message(0, &room("other"), &client("2"), "1"), Ok(()), "what is gone costs nothing");
    world.check();
}

#[test]
fn a_message_has_a_longest_length() {
    let mut world = World::with(|limits| limits.message_bytes = 4);
    world.joined("1");
    world.register(1, "1").unwrap();
    assert_eq!(world.send(1, "1234"), Ok(()));
    for refused in [world.send(1, "12345"), world.message("1", "12345"), world.post("2", "12345")] {
        assert_eq!(refused, Err(Refusal::MessageTooLong));
    }
    assert_eq!(world.seats(), ["1*+"], "a refused post seats nobody");
}

#[test]
fn rooms_have_a_largest_number() {
    let mut world = World::with(|limits| limits.rooms = 1);
    world.joined("1");
    let other = room("other");
    assert_eq!(world.rooms.join(0, &other, client("1"), false), Err(Refusal::TooManyRooms));
    assert_eq!(world.rooms.register(0, SocketId(1), &other, &client("1")), Err(Refusal::TooManyRooms));
    assert_eq!(world.rooms.post(0, &other, &client("1"), "x"), Err(Refusal::TooManyRooms));
    world.joined("2");
    world.leave("1");
    world.leave("2");
    assert!(world.rooms.join(0, &other, client("1"), false).is_ok());
}

#[test]
fn where_more_than_two_have_a_seat_everyone_hears_everyone_once() {
    let mut world = World::with(|limits| limits.clients_per_room = 3);
    world.register(1, "1").unwrap();
    world.joined("2");
    world.register(3, "3").unwrap();
    assert_eq!(world.join("4"), Err(Refusal::RoomFull));
    world.send(1, "a").unwrap();
    world.send(3, "b").unwrap();
    assert_eq!(world.sent(), ["3<a", "1<b"]);
    world.register(2, "2").unwrap();
    assert_eq!(world.sent(), ["2<a", "2<b"], "in the order in which it was said");
    world.leave("1");
    assert_eq!(world.sent(), Vec::<String>::new(), "no bye that does not tell whose it is");
    assert_eq!(world.seats(), ["2*+", "3+"]);
    world.check();
}

#[test]
fn of_more_than_two_nobody_hears_a_bye_that_does_not_tell_whose_it_is() {
    let mut world = World::with(|limits| limits.clients_per_room = 3);
    for (socket, name) in [(1, "1"), (2, "2"), (3, "3")] {
        world.joined(name);
        world.register(socket, name).unwrap();
    }
    world.leave("1");
    world.close(1);
    world.delete("2");
    assert_eq!(world.sent(), ["2!1000"]);
}

#[test]
fn what_several_said_is_heard_in_the_order_in_which_it_was_said() {
    let mut world = World::with(|limits| limits.clients_per_room = 3);
    world.joined("2");
    world.register(1, "1").unwrap();
    world.register(3, "3").unwrap();
    world.send(3, "a").unwrap();
    world.send(1, "b").unwrap();
    world.send(3, "c").unwrap();
    world.sent();
    world.register(2, "2").unwrap();
    assert_eq!(world.sent(), ["2<a", "2<b", "2<c"]);
}

#[test]
fn limits_can_change_and_nobody_is_thrown_out() {
    let mut world = World::new();
    world.joined("1");
    world.joined("2");
    world.rooms.set_limits(Limits { clients_per_room: 1, ..Limits::default() });
    assert_eq!(world.seats(), ["1*", "2"]);
    world.leave("1");
    assert_eq!(world.join("3"), Err(Refusal::RoomFull));
    world.rooms.set_limits(Limits { clients_per_room: 3, ..Limits::default() });
    assert!(world.join("3").is_ok());
}
