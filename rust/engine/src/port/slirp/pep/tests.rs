//! The proxy between a stack and a guest that are played, see `testing`.

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::testing::{From, GUEST_FIRST, SHIFT, STACK_FIRST, Tcp, World, frame, options};
use super::*;
use crate::offload::tcp_flags::{FIN, PSH};

fn stream(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn a_connection_in_quiet_times_has_more_than_64_kib_under_way() {
    for ipv6 in [false, true] {
        let mut world = World::new(ipv6);
        world.open(64_240);
        let stream = stream(2_000_000);
        let mut most = 0;
        while world.read.len() < stream.len() {
            let before = world.read.len();
            for _ in 0..4 {
                world.stack_goes_on(&stream, true);
                world.listen();
                world.turn();
            }
            most = most.max(world.way.iter().map(|tcp| tcp.data.len()).sum());
            world.arrive(|_| false, 0);
            world.now += Duration::from_micros(500);
            assert!(world.read.len() > before, "no timeout is needed");
        }
        world.listen();
        assert!(world.read == stream);
        assert!(most > 250_000, "{most}");
        assert_eq!(world.ended, Some(stream.len()));
        assert_eq!((world.stack_acked, world.pep.kept), (world.stack_next, 0));
        assert!(world.pep.spare.len() == 1 && world.pep.guests.values().all(|guest| guest.busy == 0));
    }
}

#[test]
fn segments_go_out_whole_and_the_last_is_pushed() {
    let mut world = World::new(false);
    world.open(64_240);
    world.stack_goes_on(&stream(5_000), false);
    world.turn();
    let seen: Vec<_> = world.way.iter().map(|tcp| (tcp.data.len(), tcp.flags)).collect();
    assert_eq!(seen, [(1460, ACK), (1460, ACK), (1460, ACK), (620, ACK | PSH)]);
    assert!(!world.pep.ready.contains(&0));
}

#[test]
fn a_guest_that_does_not_scale_is_left_alone() {
    for (size, shift) in [(Some(1460), None), (None, Some(SHIFT))] {
        let mut world = World::new(false);
        let mut syn = Tcp { seq: GUEST_FIRST, flags: SYN, window: 1_000, ..Tcp::default() };
        syn.options = size.map_or_else(|| vec![1, 3, 3, shift.unwrap()], |size| options(size, None));
        let before = frame(From::Guest, false, &syn);
        let mut bytes = before.clone();
        assert!(world.pep.hear_guest(&mut bytes, world.now) && bytes == before);
        let answer = Tcp { flags: SYN | ACK, options: options(7_960, None), ..Tcp::default() };
        assert_eq!(
            world.stack_sends(&answer).unwrap().options,
            options(1460, None),
            "its segments are usual ones"
        );
        let data = Tcp { seq: 9, flags: ACK, data: vec![5; 100], ..Tcp::default() };
        assert_eq!(world.stack_sends(&data).unwrap().data, data.data);
        assert!(world.pep.numbers.is_empty());
    }
}

#[test]
fn a_connection_that_the_stack_begins_is_one_too() {
    let mut world = World::new(false);
    let syn =
        Tcp { seq: STACK_FIRST, flags: SYN, window: 65_535, options: options(7_960, None), ..Tcp::default() };
    assert_eq!(world.stack_sends(&syn).unwrap().options, options(1460, Some(0)));
    let answer = Tcp {
        seq: GUEST_FIRST,
        ack: STACK_FIRST.wrapping_add(1),
        flags: SYN | ACK,
        window: 64_240,
        options: options(1460, Some(SHIFT)),
        ..Tcp::default()
    };
    let seen = world.guest_sends(&answer).unwrap();
    assert_eq!((seen.options, seen.window), (options(7_960, Some(SHIFT)), 64_240));
    world.stack_edge = world.stack_acked.wrapping_add(64_240);
    let stream = stream(100_000);
    for _ in 0..100 {
        world.stack_goes_on(&stream, false);
        world.listen();
        world.turn();
        world.arrive(|_| false, 0);
    }
    assert!(world.read == stream);
}

#[test]
fn what_a_guest_sends_reaches_the_stack_with_other_words_about_what_it_has_read() {
    let mut world = World::new(false);
    world.open(64_240);
    world.stack_goes_on(&stream(3_000), false);
    world.listen();
    let seq = GUEST_FIRST.wrapping_add(1);
    let ack = STACK_FIRST.wrapping_add(1);
    let data = Tcp { seq, ack, flags: ACK, window: 3_000, data: vec![9; 700], ..Tcp::default() };
    let seen = world.guest_sends(&data).unwrap();
    assert_eq!((seen.ack, &seen.data), (ack.wrapping_add(3_000), &data.data));
    // Whether the stack is still there is asked of the stack.
    let question = Tcp { seq: seq.wrapping_add(699), ack, flags: ACK, window: 3_000, ..Tcp::default() };
    assert!(world.guest_sends(&question).is_some());
    let word = Tcp { seq: seq.wrapping_add(700), ..question };
    assert!(world.guest_sends(&word).is_none());
    // What the stack has read comes with its own words, as far as the guest has been sent.
    let answer = Tcp { seq: ack.wrapping_add(3_000), ack: seq.wrapping_add(700), flags: ACK, ..Tcp::default() };
    assert_eq!(world.stack_sends(&answer).unwrap().seq, ack);
    world.turn();
    assert_eq!(world.way[0].ack, seq.wrapping_add(700));
}

#[test]
fn a_guest_whose_window_is_shut_is_asked_now_and_then_and_then_gets_all() {
    let mut world = World::new(false);
    world.window = 0;
    world.open(0);
    let stream = stream(200_000);
    for _ in 0..400 {
        world.listen();
        world.stack_goes_on(&stream, false);
        world.turn();
        world.arrive(|_| false, 0);
        world.now += Duration::from_secs(1);
    }
    assert!(world.read.is_empty() && !world.stack_reset, "it answers, so that it is there");
    world.window = 100_000;
    world.acknowledge();
    for _ in 0..100 {
        world.listen();
        world.stack_goes_on(&stream, false);
        world.turn();
        world.arrive(|_| false, 0);
    }
    assert_eq!(world.read.len(), stream.len());
    assert!(world.read == stream);
}

#[test]
fn a_guest_that_is_gone_is_the_end_of_the_connection_for_the_stack() {
    let mut world = World::new(false);
    world.open(64_240);
    world.stack_goes_on(&stream(1_000_000), false);
    let began = world.now;
    while !world.stack_reset {
        world.listen();
        world.turn();
        world.way.clear();
        world.now += Duration::from_secs(1);
        assert!(world.now.duration_since(began) < Duration::from_secs(1_000));
    }
    assert!(world.now.duration_since(began) > Duration::from_secs(200));
    assert_eq!((world.pep.kept, world.pep.numbers.len(), world.pep.guests.len()), (0, 0, 0));
}

#[test]
fn resets_of_either_side_end_it() {
    let mut world = World::new(false);
    world.open(64_240);
    world.stack_goes_on(&stream(30_000), false);
    let early = Tcp { seq: GUEST_FIRST.wrapping_sub(9_000_000), flags: RST, ..Tcp::default() };
    assert!(
        world.guest_sends(&early).is_some() && world.pep.numbers.len() == 1,
        "the stack does not believe it"
    );
    let reset = Tcp { seq: STACK_FIRST.wrapping_add(30_001), flags: RST | ACK, ..Tcp::default() };
    let seen = world.stack_sends(&reset).unwrap();
    assert_eq!((seen.seq, seen.flags), (STACK_FIRST.wrapping_add(1), RST | ACK), "where the guest is");
    assert_eq!((world.pep.kept, world.pep.numbers.len()), (0, 0));
    world = World::new(false);
    world.open(64_240);
    let reset = Tcp { seq: GUEST_FIRST.wrapping_add(1), flags: RST, ..Tcp::default() };
    assert!(world.guest_sends(&reset).is_some() && world.pep.numbers.is_empty());
}

#[test]
fn a_connection_is_forgotten_when_both_sides_know_that_it_is_over() {
    let mut world = World::new(false);
    world.open(64_240);
    let stream = stream(10);
    world.stack_goes_on(&stream, true);
    world.listen();
    assert_eq!(
        world.stack_acked,
        world.stack_next.wrapping_sub(1),
        "the end is not acknowledged for the guest"
    );
    world.turn();
    world.arrive(|_| false, 0);
    world.listen();
    assert_eq!((world.stack_acked, world.pep.numbers.len()), (world.stack_next, 1));
    let (seq, ack) = (GUEST_FIRST.wrapping_add(1), world.stack_next);
    let fin = Tcp { seq, ack, flags: FIN | ACK, window: 500, ..Tcp::default() };
    assert!(world.guest_sends(&fin).is_some());
    let word = Tcp { seq: ack, ack: seq.wrapping_add(1), flags: ACK, window: 65_535, ..Tcp::default() };
    assert_eq!(world.stack_sends(&word).unwrap().seq, ack);
    assert!(world.pep.numbers.is_empty() && !world.pep.has_work());
    let again = frame(From::Stack, false, &word);
    assert_eq!(world.pep.hear_stack(&again, &mut Vec::new(), world.now), Fate::Same);
}

/// A guest with this number begins a connection; whether it will be one of the proxy's.
fn begin(world: &mut World, guest: u32, port: u16) -> bool {
    let syn = Tcp { seq: 1, flags: SYN, options: options(1460, Some(SHIFT)), ..Tcp::default() };
    let mut bytes = frame(From::Guest, false, &syn);
    bytes[26..30].copy_from_slice(&(0x0a01_0000 | guest).to_be_bytes());
    bytes[34..36].copy_from_slice(&port.to_be_bytes());
    let before = bytes.clone();
    assert!(world.pep.hear_guest(&mut bytes, world.now));
    bytes != before
}

#[test]
fn the_number_of_connections_is_bounded_and_those_beyond_are_left_alone() {
    let mut world = World::new(false);
    for guest in 0..MOST_CONNECTIONS as u32 {
        assert!(begin(&mut world, guest, 1));
    }
    assert!(!begin(&mut world, 60_000, 1));
    world.now += Duration::from_secs(200);
    assert!(begin(&mut world, 60_000, 1), "those that came to nothing are forgotten");
    assert_eq!((world.pep.numbers.len(), world.pep.guests.len()), (1, 1));
}

#[test]
fn a_guest_that_begins_all_it_can_leaves_room_for_others() {
    let mut world = World::new(false);
    let begun = (0..u16::MAX).filter(|port| begin(&mut world, 1, *port)).count();
    assert_eq!(begun, MOST_CONNECTIONS / 2);
    assert!(begin(&mut world, 2, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_in_order_whatever_the_way_does(
        seed: u64, loss in 0_u32..25, len in 0_usize..400_000, window in 2_000_u32..900_000, ipv6: bool,
    ) {
        let mut state = seed | 1;
        let mut chance = move |percent: u32| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as u32 % 100 < percent
        };
        let mut world = World::new(ipv6);
        world.window = window;
        world.open(window.min(65_535) as u16);
        let stream = stream(len);
        let mut turns = 0;
        while world.stack_acked != STACK_FIRST.wrapping_add(2).wrapping_add(len as u32) {
            world.stack_goes_on(&stream, true);
            world.listen();
            world.turn();
            world.arrive(&mut chance, loss);
            world.now += Duration::from_millis(if world.way.is_empty() && turns % 8 == 0 { 300 } else { 1 });
            turns += 1;
            prop_assert!(turns < 60_000 && !world.stack_reset, "{} of {len}", world.read.len());
        }
        prop_assert!(world.read == stream);
        prop_assert_eq!((world.ended, world.pep.kept), (Some(len), 0));
    }

    #[test]
    fn no_frame_makes_it_panic_or_keep_more_than_it_may(
        frames in prop::collection::vec((any::<bool>(), any::<u8>(), any::<[u32; 3]>(), any::<u16>(),
            prop::collection::vec(any::<u8>(), 0..12), 0_usize..3_000, any::<u16>()), 0..120),
    ) {
        let mut world = World::new(false);
        world.open(64_240);
        for (guest, flags, [seq, ack, choice], window, mut options, len, flip) in frames {
            options.resize(options.len().next_multiple_of(4), 0);
            let near = |number: u32, base: u32| if choice & 1 == 0 { number } else { base.wrapping_add(number % 4_000) };
            let from = if guest { From::Guest } else { From::Stack };
            let (own, other) = if guest { (GUEST_FIRST, STACK_FIRST) } else { (STACK_FIRST, GUEST_FIRST) };
            let (seq, ack) = (near(seq, own), near(ack, other));
            let flags = if choice & 6 == 0 { flags } else { ACK };
            let tcp = Tcp { seq, ack, flags, window, options, data: vec![1; len] };
            let mut bytes = frame(from, false, &tcp);
            if choice & 24 == 0 {
                let at = usize::from(flip) % bytes.len();
                bytes[at] ^= 1 << (flip >> 13);
                bytes.truncate(bytes.len() - usize::from(flip) % 40);
            }
            if guest {
                world.pep.hear_guest(&mut bytes, world.now);
            } else {
                world.pep.hear_stack(&bytes, &mut Vec::new(), world.now);
            }
            let mut word = Vec::new();
            while world.pep.tell(&mut word) {}
            let mut batch = Batch::new();
            world.pep.look(world.now);
            world.pep.send(&mut batch, world.now);
            world.now += Duration::from_millis(u64::from(choice % 700));
            prop_assert!(world.pep.kept <= 2 * MOST_KEPT);
            let kept: usize = (0..world.pep.connections.len()).map(|number| world.pep.kept_by(number)).sum();
            prop_assert_eq!(kept, world.pep.kept);
        }
    }
}

#[test]
fn both_families_have_their_own_key() {
    let tcp = Tcp { flags: ACK, ..Tcp::default() };
    let six = frame(From::Guest, true, &tcp);
    let key = Segment::of(&six).unwrap().key(&six);
    let host = |host: u16| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host));
    assert_eq!(key, Key { guest: (host(1), 0x1001), peer: (host(2), 80) });
}
