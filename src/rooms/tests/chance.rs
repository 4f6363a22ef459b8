//! Random operations, seeded: invariants hold after every one, and every wait ends.

use super::*;

/// A small generator that is the same everywhere (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

const SOCKETS: u64 = 12;

fn step(world: &mut World, chance: &mut Chance) {
    let room = room(["abc", "b", "c"][chance.below(3) as usize]);
    let names = ["1", "2", "3", "4", "LOOPBACK_CLIENT_ID", "loopback_client_id"];
    let name = client(names[chance.below(6) as usize]);
    let socket = SocketId(chance.below(SOCKETS));
    let text = ["x", BYE, "a longer message", r#"{"type":"offer","sdp":"…"}"#][chance.below(4) as usize];
    let now_ms = world.now_ms;
    // Refusals are as good as successes here.
    match chance.below(12) {
        0 | 1 => drop(world.rooms.join(now_ms, &room, name, chance.below(4) == 0)),
        2 | 3 => drop(world.rooms.register(now_ms, socket, &room, &name)),
        4 => drop(world.rooms.message(now_ms, &room, &name, text)),
        5 | 6 => drop(world.rooms.send(now_ms, socket, text)),
        7 => drop(world.rooms.post(now_ms, &room, &name, text)),
        8 => world.rooms.leave(now_ms, &room, &name),
        9 => world.rooms.closed(now_ms, socket, chance.below(4) == 0),
        10 => world.rooms.delete(&room, &name),
        _ => world.pass([1, 500, 3_000, 70_000][chance.below(4) as usize]),
    }
}

fn run(seed: u64) {
    let mut chance = Chance(seed);
    let mut world = World::with(|limits| {
        limits.clients_per_room = 1 + (seed % 4) as usize;
        limits.rooms = 2;
        limits.queue_len = 5;
        limits.queue_bytes = 60;
        limits.queue_bytes_total = 900;
        limits.socketless_ms = 100_000;
    });
    for _ in 0..2_000 {
        step(&mut world, &mut chance);
        while let Some(outgoing) = world.rooms.poll_outgoing() {
            // A closed socket is closed; what is left of it is told as the plane would tell it.
            if let Outgoing::Close { socket, .. } = outgoing {
                world.rooms.closed(world.now_ms, socket, false);
            }
        }
        world.check();
    }
    for socket in 0..SOCKETS {
        world.close(socket);
    }
    let mut waits = 0;
    while let Some(deadline_ms) = world.rooms.next_deadline() {
        assert!(deadline_ms > world.now_ms && waits < 100, "every wait ends");
        waits += 1;
        world.pass(deadline_ms - world.now_ms);
        world.check();
    }
    assert!(world.is_empty(), "nobody stays for ever");
    assert_eq!(world.rooms.counts().queued_bytes, 0);
}

#[test]
fn whatever_clients_do_the_rooms_stay_sound_and_empty_in_the_end() {
    for seed in 0..40 {
        // The seed of a failure replays it.
        println!("seed {seed}");
        run(seed);
    }
}
