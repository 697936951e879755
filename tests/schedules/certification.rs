//! Serializable transactions that read what others write.

use std::sync::Arc;

use shuttle::thread;

use crate::explore::explore;
use crate::history::{History, serializable};

/// Runs the threads of a scenario to their end.
fn concurrently(history: History, threads: &[fn(&History)]) -> History {
    let history = Arc::new(history);
    let spawn = |body: &fn(&History)| {
        let (history, body) = (Arc::clone(&history), *body);
        thread::spawn(move || body(&history))
    };
    let threads: Vec<_> = threads.iter().map(spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("the thread did not panic"));
    Arc::into_inner(history).expect("the threads have ended")
}

#[test]
fn write_skew_of_two() {
    explore(&["10", "01"], || {
        let history = concurrently(
            History::new(&[("a", 1), ("b", 1)]),
            &[
                |history| {
                    history.run("1", &serializable(), |one| {
                        let sum = one.number("a") + one.number("b");
                        one.put("a", sum);
                    });
                },
                |history| {
                    history.run("2", &serializable(), |two| {
                        let sum = two.number("a") + two.number("b");
                        two.put("b", sum);
                    });
                },
            ],
        );
        history.judge(&["1", "2"])
    });
}
