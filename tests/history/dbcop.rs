//! Histories in the JSON format of dbcop (Biswas and Enea, "On the Complexity of Checking Transactional Consistency",
//! OOPSLA 2019), which other checkers read, too. It knows gets and puts of numbered variables, and one version a write.
//!
//! Left out is what dbcop takes for part of the order, or cannot read: transactions that did not commit, reads of a
//! transaction's own writes, writes that it replaced itself, and reads that say again what the one before said. All of
//! these are judged here instead.

use std::collections::BTreeMap;

use super::data::{Event, History, Key, Row, Transaction};

/// One file.
pub fn json(history: &History, id: u64, info: &str) -> String {
    let mut sessions: BTreeMap<usize, Vec<&Transaction>> = BTreeMap::new();
    for transaction in history.transactions.iter().filter(|transaction| transaction.is_committed()) {
        sessions.entry(transaction.session).or_default().push(transaction);
    }
    let variables = variables(history);
    let transactions = sessions.values().map(Vec::len).max().unwrap_or(0);
    let most_events = sessions.values().flatten().map(|transaction| events(transaction).len()).max().unwrap_or(0);

    let mut text = String::new();
    let params = format!(
        r#"{{"id":{id},"n_node":{},"n_variable":{},"n_transaction":{transactions},"n_event":{most_events}}}"#,
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
    let events = events(transaction);
    let written: Vec<String> = events
        .iter()
        .map(|(kind, key, version)| {
            let (variable, version) =
                (variables[key], version.map_or("null".to_owned(), |version| version.to_string()));
            format!(r#"{{"{kind}":{{"variable":{variable},"version":{version}}}}}"#)
        })
        .collect();
    text.push_str(&format!(r#"{{"events":[{}],"committed":true}}"#, written.join(",")));
}

/// Reads and writes that say something about other transactions.
fn events(transaction: &Transaction) -> Vec<(&'static str, Key, Option<Row>)> {
    let mut events = Vec::new();
    let (mut writes, mut reads) = (BTreeMap::new(), BTreeMap::new());
    for step in &transaction.steps {
        match &step.event {
            Event::Get(key, _) if writes.contains_key(key) => {}
            Event::Get(key, rows) => {
                let version = rows.as_ref().and_then(|rows| rows.last().copied());
                if reads.insert(*key, version) != Some(version) {
                    events.push(("Read", *key, version));
                }
            }
            Event::Put(key, row) => _ = writes.insert(*key, *row),
            other => panic!("dbcop knows gets and puts only: {other}"),
        }
    }
    events.extend(writes.into_iter().map(|(key, row)| ("Write", key, Some(row))));
    events
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
