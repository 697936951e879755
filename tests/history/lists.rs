//! The order of versions recovered from lists that only grow, as Elle does (Kingsbury and Alvaro, "Elle: Inferring
//! Isolation Anomalies from Experimental Observations", VLDB 2020). What a read gives is the whole history of its key,
//! so no word of the database about its own order is needed: its commit versions are compared with what the lists say.
//!
//! Everything that a history writes must be appended, and somebody must read every key at the end.

use std::collections::{BTreeMap, HashMap};

use super::anomalies::{Anomaly, Phenomenon};
use super::data::{Event, History, Key, Name, Row};
use super::digest::{Change, Digest, Seen, digests};
use super::graph::{Order, VersionRead};
use super::recovery::{Recovery, owners, spans};

/// Recovers the order of a history.
pub fn recover(history: &History) -> Recovery {
    let (digests, versions) = digests(history);
    let owners = owners(history);
    let mut anomalies: Vec<Anomaly> = digests.iter().flat_map(|digest| digest.anomalies.clone()).collect();

    let lists = longest_lists(&digests, &mut anomalies);
    let chains: BTreeMap<Key, Vec<Segment>> = lists
        .iter()
        .map(|(key, list)| (*key, segments(*key, list, history, &digests, &owners, &mut anomalies)))
        .collect();
    check_presence(history, &digests, &chains, &mut anomalies);
    check_versions(&versions, &chains, &mut anomalies);

    let mut reads = Vec::new();
    for (reader, digest) in
        digests.iter().enumerate().filter(|(reader, _)| history.transactions[*reader].is_committed())
    {
        for read in &digest.reads {
            for (key, chain) in chains.range(read.span.low..=read.span.high) {
                let predicate = read.is_scan && *read.seen(*key) == Seen::Absent;
                let position = match read.seen(*key) {
                    Seen::Absent => 0,
                    // One that contradicts the longest list was reported.
                    Seen::Rows(rows) if !lists[key].starts_with(rows) => continue,
                    Seen::Rows(rows) => match chain.iter().position(|segment| segment.end == rows.len()) {
                        Some(position) => position + 1,
                        None => {
                            let what = format!("T{reader} reads {} between two rows of one transaction", Name(*key));
                            anomalies.push(Anomaly::of(Phenomenon::G1b, [reader], what));
                            continue;
                        }
                    },
                    Seen::Present | Seen::Hidden => continue,
                };
                reads.push(VersionRead { reader, key: *key, position, predicate });
            }
        }
    }
    let writers = |chain: &Vec<Segment>| chain.iter().map(|segment| segment.writer).collect();
    let chains = chains.iter().map(|(key, chain)| (*key, writers(chain))).collect();
    Recovery { order: Order { chains, reads, spans: spans(history) }, anomalies }
}

/// What one transaction appended to a list.
struct Segment {
    writer: usize,
    /// The length of the list with it, and with what should not be there behind it.
    end: usize,
}

/// The longest list that anybody saw of each key, of which all others must be the beginning.
fn longest_lists(digests: &[Digest], anomalies: &mut Vec<Anomaly>) -> BTreeMap<Key, Vec<Row>> {
    let mut longest: BTreeMap<Key, (usize, &[Row])> = BTreeMap::new();
    for (reader, digest) in digests.iter().enumerate() {
        for read in &digest.reads {
            for (key, seen) in &read.seen {
                let Seen::Rows(rows) = seen else {
                    continue;
                };
                let (other, known) = longest.entry(*key).or_insert((reader, rows));
                let (shorter, longer) =
                    if known.len() < rows.len() { (*known, rows.as_slice()) } else { (rows.as_slice(), *known) };
                if !longer.starts_with(shorter) {
                    let what = format!("T{other} reads {known:?} of {} and T{reader} reads {rows:?}", Name(*key));
                    anomalies.push(Anomaly::of(Phenomenon::ThinAir, [*other, reader], what));
                } else if known.len() < rows.len() {
                    (*other, *known) = (reader, rows);
                }
            }
        }
    }
    longest.into_iter().map(|(key, (_, rows))| (key, rows.to_vec())).collect()
}

/// A list cut into what each transaction appended, which must be all that it appended, in its order, and once.
fn segments(
    key: Key,
    list: &[Row],
    history: &History,
    digests: &[Digest],
    owners: &HashMap<Row, (usize, Key)>,
    anomalies: &mut Vec<Anomaly>,
) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut end = 0;
    while end < list.len() {
        let row = list[end];
        let Some((writer, _)) = owners.get(&row).copied().filter(|(_, of)| *of == key) else {
            let what = format!("{} has row {row}, which nobody wrote there", Name(key));
            anomalies.push(Anomaly::of(Phenomenon::ThinAir, [], what));
            end += 1;
            segments.last_mut().into_iter().for_each(|segment| segment.end = end);
            continue;
        };
        let written = digests[writer].writes.get(&key).map_or(&[][..], |write| write.change.rows());
        let phenomenon = if !history.transactions[writer].is_committed() {
            Some(Phenomenon::G1a)
        } else if !written.contains(&row) {
            Some(Phenomenon::G1b)
        } else if !list[end..].starts_with(written) || segments.iter().any(|segment| segment.writer == writer) {
            Some(Phenomenon::G0)
        } else {
            None
        };
        if let Some(phenomenon) = phenomenon {
            let what = format!("{} has row {row} of T{writer} where it should not be: {list:?}", Name(key));
            anomalies.push(Anomaly::of(phenomenon, [writer], what));
            end += 1;
            segments.last_mut().into_iter().for_each(|segment| segment.end = end);
            continue;
        }
        end += written.len();
        segments.push(Segment { writer, end });
    }
    segments
}

/// Everything that was appended and committed must be there.
fn check_presence(
    history: &History,
    digests: &[Digest],
    chains: &BTreeMap<Key, Vec<Segment>>,
    anomalies: &mut Vec<Anomaly>,
) {
    for (number, transaction) in history.transactions.iter().enumerate() {
        let appends = |event: &Event| !matches!(event, Event::Put(..) | Event::Delete(_));
        assert!(transaction.steps.iter().all(|step| appends(&step.event)), "T{number} does not only append");
        for (key, write) in digests[number].writes.iter().filter(|_| transaction.is_committed()) {
            assert!(matches!(write.change, Change::Append(_)));
            if !chains.get(key).is_some_and(|chain| chain.iter().any(|segment| segment.writer == number)) {
                let what = format!("what T{number} appended to {} is not there", Name(*key));
                anomalies.push(Anomaly::of(Phenomenon::LostWrite, [number], what));
            }
        }
    }
}

/// The commit versions must be in the order of the lists.
fn check_versions(versions: &[Option<u64>], chains: &BTreeMap<Key, Vec<Segment>>, anomalies: &mut Vec<Anomaly>) {
    for (key, chain) in chains {
        for pair in chain.windows(2) {
            let [older, newer] = [pair[0].writer, pair[1].writer];
            if versions[older] >= versions[newer] {
                let what = format!(
                    "T{newer} follows T{older} in {}, and their versions are {:?} and {:?}",
                    Name(*key),
                    versions[newer],
                    versions[older]
                );
                anomalies.push(Anomaly::of(Phenomenon::VersionOrder, [older, newer], what));
            }
        }
    }
}
