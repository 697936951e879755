//! A thread that stops at fail points and goes on when it is told to.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use khonsu::stm::FailPoint;

/// No test needs a hundredth of it: whoever has not come back then does not come back.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Whether a thread stops at a fail point that it comes to, for the so-manieth time.
pub type Stop = Box<dyn FnMut(FailPoint, usize) -> bool + Send>;

pub fn never() -> Stop {
    Box::new(|_, _| false)
}

/// At a fail point, when it comes there for the so-manieth time.
pub fn at(point: FailPoint, time: usize) -> Stop {
    Box::new(move |reached, times| (reached, times) == (point, time))
}

pub struct Runner {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    what: String,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    stop: Stop,
    stopped: Option<FailPoint>,
    ended: bool,
    reached: BTreeMap<FailPoint, usize>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// What the thread does at each fail point.
    fn reach(&self, point: FailPoint) {
        let mut state = self.state();
        let state_now = &mut *state;
        let times = state_now.reached.entry(point).or_default();
        *times += 1;
        if (state_now.stop)(point, *times) {
            state.stopped = Some(point);
            self.changed.notify_all();
            let still_stopped = |state: &mut State| state.stopped.is_some();
            drop(self.changed.wait_while(state, still_stopped).expect("nobody panics with it"));
        }
    }
}

impl Runner {
    /// Starts a thread and gives it back when it has stopped or ended. `what` says which, if something goes wrong.
    pub fn start(what: String, stop: Stop, work: impl FnOnce() + Send + 'static) -> Self {
        let state = State { stop, stopped: None, ended: false, reached: BTreeMap::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        /// Also when it panics.
        struct Ended(Arc<Shared>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.state().ended = true;
                self.0.changed.notify_all();
            }
        }
        let (hook, ended) = (Arc::clone(&shared), Ended(Arc::clone(&shared)));
        let thread = std::thread::spawn(move || {
            let _ended = ended;
            FailPoint::replace_hook(Some(Box::new(move |point| hook.reach(point))));
            work();
            FailPoint::replace_hook(None);
        });
        let mut runner = Runner { shared, thread: Some(thread), what };
        runner.wait();
        runner
    }

    /// Waits until it has stopped or ended.
    fn wait(&mut self) {
        let under_way = |state: &mut State| state.stopped.is_none() && !state.ended;
        let (state, _) =
            self.shared.changed.wait_timeout_while(self.shared.state(), HANGS_AFTER, under_way).expect("as above");
        let (stopped, ended) = (state.stopped.is_some(), state.ended);
        drop(state);
        assert!(stopped || ended, "{} makes no progress", self.what);
        if ended && let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|_| panic!("{} has failed", self.what));
        }
    }

    /// Where it is stopped; `None`: it has ended.
    pub fn stopped_at(&self) -> Option<FailPoint> {
        self.shared.state().stopped
    }

    /// Who it is and where, for the report of a failure.
    pub fn place(&self) -> String {
        format!("{} at {:?}", self.what, self.stopped_at())
    }

    /// The fail points that it has come to, and how often.
    pub fn reached(&self) -> BTreeMap<FailPoint, usize> {
        self.shared.state().reached.clone()
    }

    /// Lets it go on until it stops again or ends.
    pub fn go_on(&mut self, stop: Stop) {
        let mut state = self.shared.state();
        state.stop = stop;
        state.stopped = None;
        drop(state);
        self.shared.changed.notify_all();
        self.wait();
    }
}

/// Runs some work on a thread of its own, which must come to its end.
pub fn must_end<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || _ = sender.send(work()));
    match receiver.recv_timeout(HANGS_AFTER) {
        Ok(given) => {
            thread.join().expect("it has done its work");
            given
        }
        Err(RecvTimeoutError::Disconnected) => panic!("what failed: {what}"),
        Err(RecvTimeoutError::Timeout) => panic!("no progress: {what}"),
    }
}
