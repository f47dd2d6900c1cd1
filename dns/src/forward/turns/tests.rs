use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use crate::answer::Transport;
use crate::forward::tests::{
    ASKED_FOR, ask, asker, forwarder, patient, question, run, said, saying, silent,
};
use crate::forward::{Forwarder, Relayed};
use crate::question::HEADER;

/// How many askers have questions that are out or wait.
pub(in crate::forward) fn asking_now(forwarder: &Forwarder) -> usize {
    lock(&forwarder.turns.askers).queues.len()
}

#[test]
fn one_asker_has_so_many_places_and_the_next_one_its_own() {
    run(async {
        let forwarder = patient();
        let turns: Vec<_> = (0..MANY).map(|_| forwarder.turns.take(&asker())).collect();
        assert!(turns.iter().all(Option::is_some), "alone it may have many");
        assert!(forwarder.turns.take(&asker()).is_none() && !forwarder.has_few(&asker()));
        let other = Asker { source: IpAddr::from([10, 0, 0, 3]), ..asker() };
        assert!(forwarder.has_few(&other));
        let mut others: Vec<_> = (0..OUT_PER_ASKER + WAITING_PER_ASKER + 1)
            .map(|_| forwarder.turns.take(&other))
            .collect();
        assert!(others.pop().is_some_and(|turn| turn.is_none()));
        assert!(others.iter().all(Option::is_some), "whoever else has many");
        drop((turns, others));
        let askers = lock(&forwarder.turns.askers);
        assert!(askers.queues.is_empty() && askers.length == 0, "nothing is kept of who has gone");
    });
}

#[test]
fn as_many_questions_of_one_asker_are_asked_as_it_has_places() {
    run(async {
        let forwarder = patient();
        let slow = silent().await;
        let mut asking = JoinSet::new();
        for n in 0..MANY {
            let forwarder = Arc::clone(&forwarder);
            asking.spawn(async move {
                forwarder.ask(&asker(), &[slow], &question(n), Transport::Udp).await
            });
        }
        while lock(&forwarder.turns.askers).length < MANY
            || forwarder.pressure().out < OUT_PER_ASKER
        {
            tokio::task::yield_now().await;
        }
        assert_eq!(forwarder.pressure().crowded, 0);
        let another = question(MANY);
        let another = forwarder.ask(&asker(), &[slow], &another, Transport::Udp).await;
        assert_eq!(another, Relayed::CROWDED);
        let pressure = forwarder.pressure();
        assert_eq!((pressure.out, pressure.crowded), (OUT_PER_ASKER, 1));
        assert!(asking.try_join_next().is_none(), "all others still wait");
    });
}

#[test]
fn those_with_many_questions_out_do_not_delay_who_has_few() {
    run(async {
        let forwarder = patient();
        let (slow, good) = (silent().await, saying(0, 9).await);
        let mut asking = JoinSet::new();
        for n in 0..OUT + 100 {
            let host = u8::try_from(n / OUT_PER_ASKER).unwrap();
            let asker = Asker { source: IpAddr::from([10, 0, 1, host]), ..asker() };
            let forwarder = Arc::clone(&forwarder);
            asking.spawn(async move {
                forwarder.ask(&asker, &[slow], &question(n), Transport::Udp).await
            });
        }
        while forwarder.pressure().waited < 100 {
            tokio::task::yield_now().await;
        }
        let pressure = forwarder.pressure();
        assert!(pressure.out >= OUT - KEPT_BACK && pressure.out < OUT, "{pressure:?}");
        assert!(pressure.last.is_some());
        // Not one of the slow ones is done when this is.
        assert!(ask(&forwarder, &[good]).await.is_some());
        assert!(asking.try_join_next().is_none());
    });
}

#[test]
fn who_has_too_many_waiting_is_counted() {
    run(async {
        let forwarder = patient();
        let _turns: Vec<_> = (0..MANY).map(|_| forwarder.turns.take(&asker())).collect();
        assert!(ask(&forwarder, &[silent().await]).await.is_none());
        assert_eq!(forwarder.pressure().crowded, 1);
    });
}

#[test]
fn whose_turn_comes_too_late_is_no_failure_of_a_server() {
    run(async {
        let forwarder = forwarder(Duration::from_millis(100));
        let good = saying(0, 9).await;
        let turn = forwarder.turns.take(&asker()).unwrap();
        let others = u32::try_from(OUT_PER_ASKER).unwrap();
        let others = Arc::clone(&turn.out).acquire_many_owned(others).await.unwrap();
        let option = [0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 6, 0, 77, 0, 2, 7, 7];
        let with_an_option = [&ASKED_FOR[..11], &[1], &ASKED_FOR[12..], &option].concat();
        for packet in [ASKED_FOR, &with_an_option] {
            let late = forwarder.ask(&asker(), &[good], packet, Transport::Udp).await;
            assert_eq!(late, Relayed::LATE);
        }
        assert_eq!(forwarder.pressure().crowded, 2);
        assert!(forwarder.standings().is_empty(), "nobody was asked");
        drop(others);
        assert_eq!(ask(&forwarder, &[good]).await, Some(said(ASKED_FOR, 0, 9)));
    });
}

#[test]
fn giving_up_early_makes_no_room_for_more() {
    run(async {
        let (forwarder, silent) = (patient(), silent().await);
        for number in 0..OUT_PER_ASKER {
            let mut query = ASKED_FOR.to_vec();
            query[HEADER + 1] = u8::try_from(number).unwrap() + b'!';
            let forwarder = Arc::clone(&forwarder);
            let asking = tokio::spawn(async move {
                forwarder.ask(&asker(), &[silent], &query, Transport::Udp).await
            });
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            asking.abort();
        }
        tokio::task::yield_now().await;
        let turn = forwarder.turns.take(&asker()).unwrap();
        assert_eq!(turn.out.available_permits(), 0);
    });
}
