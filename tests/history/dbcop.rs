//! Histories in the JSON format of dbcop (Biswas and Enea, "On the Complexity of Checking Transactional Consistency",
//! OOPSLA 2019), which other checkers read, too. It knows gets and puts of numbered variables, and one version a write.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::data::{Event, History, Key, Transaction};

/// One file.
pub fn json(history: &History, id: u64, info: &str) -> String {
    let mut sessions: BTreeMap<usize, Vec<&Transaction>> = BTreeMap::new();
    for transaction in &history.transactions {
        sessions.entry(transaction.session).or_default().push(transaction);
    }
    let variables = variables(history);
    let transactions = sessions.values().map(Vec::len).max().unwrap_or(0);
    let events = history.transactions.iter().map(|transaction| transaction.steps.len()).max().unwrap_or(0);

    let mut text = String::new();
    let params = format!(
        r#"{{"id":{id},"n_node":{},"n_variable":{},"n_transaction":{transactions},"n_event":{events}}}"#,
        sessions.len(),
        variables.len()
    );
    // The format wants two instants. Real time is in the order of the sessions only, and a seed gives one file.
    let instant = "1970-01-01T00:00:00Z";
    text.push_str(&format!(r#"{{"params":{params},"info":"{info}","start":"{instant}","end":"{instant}","data":["#));
    for (number, session) in sessions.values().enumerate() {
        text.push_str(if number == 0 { "\n[" } else { ",\n[" });
        for (number, transaction) in session.iter().enumerate() {
            text.push_str(if number == 0 { "" } else { ",\n " });
            push_transaction(&mut text, transaction, &variables);
        }
        text.push(']');
    }
    text.push_str("\n]}\n");
    text
}

fn push_transaction(text: &mut String, transaction: &Transaction, variables: &BTreeMap<Key, usize>) {
    text.push_str(r#"{"events":["#);
    for (number, step) in transaction.steps.iter().enumerate() {
        text.push_str(if number == 0 { "" } else { "," });
        let (kind, key, version) = match &step.event {
            Event::Get(key, None) => ("Read", key, "null".to_owned()),
            Event::Get(key, Some(rows)) => ("Read", key, rows.last().expect("a value has rows").to_string()),
            Event::Put(key, row) => ("Write", key, row.to_string()),
            other => panic!("dbcop knows gets and puts only: {other}"),
        };
        let variable = variables[key];
        write!(text, r#"{{"{kind}":{{"variable":{variable},"version":{version}}}}}"#).expect("a string takes it");
    }
    write!(text, r#"],"committed":{}}}"#, transaction.is_committed()).expect("a string takes it");
}

fn variables(history: &History) -> BTreeMap<Key, usize> {
    let steps = history.transactions.iter().flat_map(|transaction| &transaction.steps);
    let mut keys: Vec<Key> = steps
        .filter_map(|step| match step.event {
            Event::Get(key, _) | Event::Put(key, _) => Some(key),
            _ => None,
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().zip(0..).collect()
}
