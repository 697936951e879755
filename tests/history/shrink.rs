//! Makes what fails small enough to read.

use super::data::History;
use super::plan::{Action, Plan};

/// Most plans that are tried.
const MOST_TRIES: usize = 5000;

/// A plan that still fails and from which nothing can be taken away: no transaction, no step, nothing that is there at
/// the beginning.
pub fn shrink_plan(plan: &Plan, fails: impl Fn(&Plan) -> bool) -> Plan {
    let mut smallest = plan.clone();
    let mut tries = 0;
    loop {
        let transactions = transactions(&smallest).into_iter().map(|steps| without_steps(&smallest, &steps));
        let steps = (0..smallest.steps.len()).map(|step| without_steps(&smallest, &[step]));
        let filled = (0..smallest.filled.len()).map(|place| {
            let mut plan = smallest.clone();
            plan.filled.remove(place);
            plan
        });
        let next = transactions.chain(steps).chain(filled).find(|plan| {
            tries += 1;
            tries <= MOST_TRIES && fails(plan)
        });
        match next {
            Some(next) => smallest = next,
            None => return smallest,
        }
    }
}

/// The steps of each transaction.
fn transactions(plan: &Plan) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::new();
    let mut open = vec![None; plan.sessions];
    for (number, step) in plan.steps.iter().enumerate() {
        if matches!(step.action, Action::Begin { .. }) {
            open[step.session] = Some(all.len());
            all.push(Vec::new());
        }
        if let Some(transaction) = open[step.session] {
            all[transaction].push(number);
        }
    }
    all
}

fn without_steps(plan: &Plan, without: &[usize]) -> Plan {
    let left = plan.steps.iter().enumerate().filter(|(number, _)| !without.contains(number));
    Plan { steps: left.map(|(_, step)| step.clone()).collect(), filled: plan.filled.clone(), ..*plan }
}

/// A history that shows the same without some of its transactions.
pub fn shrink_history<T: PartialEq>(history: &History, shows: impl Fn(&History) -> T) -> History {
    let mut smallest = history.clone();
    let all = shows(history);
    let mut number = 0;
    while number < smallest.transactions.len() {
        let mut smaller = smallest.clone();
        smaller.transactions.remove(number);
        if shows(&smaller) == all {
            smallest = smaller;
        } else {
            number += 1;
        }
    }
    smallest
}
