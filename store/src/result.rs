//! What an answer refers to, gathered from many segments, each thing once, and made a [`Batch`] of.

use std::collections::HashMap;
use std::sync::Arc;

use super::bytes::Malformed;
use super::columns::{Facts, StoredSample};
use super::dictionary::{Dictionary, Table};
use super::entry::{self, Place, Trace};
use super::functions::{FunctionRow, FunctionSums};
use super::tables::Tables;
use super::transfer::Transfer;
use profiles::profile::{
    Batch, Location, LocationIndex, Mapping, Process, ProcessIndex, Sample, Stack, StackIndex, StringIndex, StringTable,
};

/// A dictionary of an answer with exact stacks.
#[derive(Default)]
pub(super) struct ResultTables {
    pub(super) dictionary: Dictionary,
}

/// Numbers of a dictionary's texts in a batch.
struct Texts {
    owners: Vec<StringIndex>,
    code: Vec<StringIndex>,
}

impl Texts {
    fn owner(&self, index: StringIndex) -> Result<StringIndex, Malformed> {
        self.owners.get(index.0 as usize).copied().ok_or(Malformed("a text that is not there"))
    }

    fn code(&self, index: StringIndex) -> Result<StringIndex, Malformed> {
        self.code.get(index.0 as usize).copied().ok_or(Malformed("a text that is not there"))
    }
}

fn place(dictionary: &Dictionary, number: u32) -> Result<Place, Malformed> {
    let entry = dictionary.entries(Table::Places).get(number);
    entry::place(entry.ok_or(Malformed("a place that is not there"))?)
}

fn text(entry: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(entry).map_err(|_| Malformed("a text that is not UTF-8"))
}

impl ResultTables {
    /// One chunk as the batch that it was.
    pub(super) fn batch_of_chunk(
        &mut self,
        tables: &Tables,
        facts: &Facts,
        samples: &[StoredSample],
    ) -> Result<Batch, Malformed> {
        let mut transfer = Transfer::new(tables);
        let mut rows = Vec::with_capacity(samples.len());
        for sample in samples {
            let thread = transfer.thread(&mut self.dictionary, tables.thread(sample.thread)?)?;
            let trace = tables.trace(sample.trace)?;
            let trace = Trace { node: transfer.node(&mut self.dictionary, trace.node)?, ..trace };
            rows.push((thread, trace, *sample));
        }
        self.batch(facts, |stacks, texts| {
            let dictionary = &self.dictionary;
            let mut samples = Vec::with_capacity(rows.len());
            for (thread, trace, sample) in rows {
                let thread = entry::thread(dictionary.entries(Table::Threads).get(thread).unwrap_or_default())?;
                samples.push(Sample {
                    time_ns: sample.time_ns,
                    weight_ns: sample.weight_ns,
                    process: ProcessIndex(thread.process),
                    tid: thread.tid,
                    thread_name: texts.owner(StringIndex(thread.name))?,
                    cpu: sample.cpu,
                    stack: stacks.index(trace.node)?,
                    end: trace.end,
                    provenance: trace.provenance,
                });
            }
            Ok(samples)
        })
    }

    /// Sums as a batch: one sample for each owner and stack. `owners` says whether the owners are threads, or processes.
    pub(super) fn batch_of_sums(
        &self,
        facts: &Facts,
        owners: Table,
        rows: &[(u32, Trace, u64)],
    ) -> Result<Batch, Malformed> {
        self.batch(facts, |stacks, texts| {
            let dictionary = &self.dictionary;
            let mut samples = Vec::with_capacity(rows.len());
            for (owner, trace, weight_ns) in rows {
                let (process, tid, name) = if owners == Table::Threads {
                    let thread = entry::thread(dictionary.entries(Table::Threads).get(*owner).unwrap_or_default())?;
                    (thread.process, thread.tid, texts.owner(StringIndex(thread.name))?)
                } else {
                    (*owner, 0, StringIndex(0))
                };
                samples.push(Sample {
                    time_ns: facts.monotonic_start_ns,
                    weight_ns: *weight_ns,
                    process: ProcessIndex(process),
                    tid,
                    thread_name: name,
                    cpu: 0,
                    stack: stacks.index(trace.node)?,
                    end: trace.end,
                    provenance: trace.provenance,
                });
            }
            Ok(samples)
        })
    }

    fn batch(
        &self,
        facts: &Facts,
        samples: impl FnOnce(&mut Stacks<'_>, &Texts) -> Result<Vec<Sample>, Malformed>,
    ) -> Result<Batch, Malformed> {
        let dictionary = &self.dictionary;
        batch(facts, dictionary, |texts| {
            let locations = dictionary.entries(Table::Locations).iter();
            let locations = locations.map(|entry| entry::location(entry, |number| place(dictionary, number)));
            let locations = locations.collect::<Result<_, _>>()?;
            let mut stacks = Stacks { dictionary, frames: 0, numbers: HashMap::new(), stacks: Vec::new() };
            let samples = samples(&mut stacks, texts)?;
            Ok(Content { locations, stacks: stacks.stacks, samples })
        })
    }
}

impl FunctionSums {
    /// As a batch: one sample for each row, in their order. And how many each stands for.
    pub(super) fn into_batch(self, facts: &Facts) -> Result<(Batch, Vec<u64>), Malformed> {
        let FunctionSums { dictionary, locations, stacks, rows, .. } = self;
        let counts = rows.iter().map(|row| row.count).collect();
        let batch = batch(facts, &dictionary, |_| {
            let locations = locations.all().iter();
            let locations = locations.map(|shown| Ok(place(&dictionary, shown.place)?.with_line(shown.line)));
            let sample = |row: &FunctionRow| Sample {
                time_ns: facts.monotonic_start_ns,
                weight_ns: row.weight_ns,
                process: ProcessIndex(row.process),
                tid: 0,
                thread_name: StringIndex(0),
                cpu: 0,
                stack: StackIndex(row.stack),
                end: row.end,
                provenance: row.provenance,
            };
            let samples = rows.iter().map(sample).collect();
            Ok(Content { locations: locations.collect::<Result<_, Malformed>>()?, stacks, samples })
        })?;
        Ok((batch, counts))
    }
}

/// What of a batch comes from samples.
struct Content {
    locations: Vec<Location>,
    stacks: Vec<Stack>,
    samples: Vec<Sample>,
}

/// A dictionary as a batch's tables: all but texts and stacks keep their numbers.
fn batch(
    facts: &Facts,
    dictionary: &Dictionary,
    content: impl FnOnce(&Texts) -> Result<Content, Malformed>,
) -> Result<Batch, Malformed> {
    let texts = dictionary.entries(Table::OwnerTexts).len() + dictionary.entries(Table::Texts).len();
    let mut strings = StringTable::with_capacity(texts + 1);
    // Index 0 is the empty text, as in pprof.
    strings.intern("");
    let mut numbers = |table| -> Result<Vec<StringIndex>, Malformed> {
        dictionary.entries(table).iter().map(|entry| Ok(strings.intern(text(entry)?))).collect()
    };
    let texts = Texts { owners: numbers(Table::OwnerTexts)?, code: numbers(Table::Texts)? };
    // Each text once, however many identities have it.
    let mut shared: Vec<Option<Arc<str>>> = vec![None; dictionary.entries(Table::OwnerTexts).len()];
    let mut owner_text = |number: u32| -> Result<Arc<str>, Malformed> {
        let slot = shared.get_mut(number as usize).ok_or(Malformed("a text that is not there"))?;
        if let Some(known) = slot {
            return Ok(Arc::clone(known));
        }
        let entry = dictionary.entries(Table::OwnerTexts).get(number).unwrap_or_default();
        Ok(Arc::clone(slot.insert(text(entry)?.into())))
    };
    let identities = dictionary.entries(Table::Identities).iter().map(|entry| entry::identity(entry, &mut owner_text));
    let processes = dictionary.entries(Table::Processes).iter().map(|entry| {
        let process = entry::process(entry)?;
        Ok(Process {
            comm: texts.owner(process.comm)?,
            executable: texts.owner(process.executable)?,
            cgroup: texts.owner(process.cgroup)?,
            ..process
        })
    });
    let mappings = dictionary.entries(Table::Mappings).iter().map(|entry| {
        let mapping = entry::mapping(entry)?;
        Ok(Mapping { filename: texts.code(mapping.filename)?, build_id: texts.code(mapping.build_id)? })
    });
    let functions = dictionary.entries(Table::Functions).iter().map(|entry| {
        let mut function = entry::function(entry)?;
        for text in [&mut function.name, &mut function.system_name, &mut function.filename] {
            *text = texts.code(*text)?;
        }
        Ok(function)
    });
    let Content { locations, stacks, samples } = content(&texts)?;
    Ok(Batch {
        wall_start_ns: facts.wall_start_ns,
        monotonic_start_ns: facts.monotonic_start_ns,
        duration_ns: facts.duration_ns,
        period_ns: facts.period_ns,
        identities: identities.collect::<Result<_, _>>()?,
        processes: processes.collect::<Result<_, _>>()?,
        mappings: mappings.collect::<Result<_, _>>()?,
        functions: functions.collect::<Result<_, _>>()?,
        locations,
        stacks,
        strings,
        samples,
        ledger: facts.ledger,
    })
}

/// Frames of a batch's stacks together, 4 bytes each: a small file can name deep stacks with much in common.
const MAX_BATCH_FRAMES: usize = 64 << 20;

/// Stacks by their leaf's node, written out.
struct Stacks<'dictionary> {
    dictionary: &'dictionary Dictionary,
    frames: usize,
    numbers: HashMap<u32, StackIndex>,
    stacks: Vec<Stack>,
}

impl Stacks<'_> {
    fn index(&mut self, leaf: u32) -> Result<StackIndex, Malformed> {
        if let Some(index) = self.numbers.get(&leaf) {
            return Ok(*index);
        }
        let mut locations = Vec::new();
        let mut at = leaf;
        while let Some(node) = (at as usize).checked_sub(1).and_then(|place| self.dictionary.nodes().get(place)) {
            locations.push(LocationIndex(node.at));
            at = node.parent;
        }
        self.frames += locations.len();
        if self.frames > MAX_BATCH_FRAMES {
            return Err(Malformed("stacks with too many frames"));
        }
        let index = StackIndex(self.stacks.len() as u32);
        self.stacks.push(Stack { locations });
        self.numbers.insert(leaf, index);
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_there_once_however_often_identities_name_it() {
        let mut dictionary = Dictionary::default();
        dictionary.intern(Table::OwnerTexts, &[b'a'; 60_000]).unwrap();
        for texts in [12, 60_000] {
            dictionary.intern(Table::Identities, &vec![0; texts]).unwrap();
        }
        let content = |_: &Texts| Ok(Content { locations: Vec::new(), stacks: Vec::new(), samples: Vec::new() });
        let batch = batch(&Facts::default(), &dictionary, content).unwrap();
        let [first, second] = &batch.identities[..] else { panic!("{}", batch.identities.len()) };
        assert_eq!((first.pod.len(), second.labels.len()), (60_000, 29_994));
        assert!(
            second.labels.iter().all(|(key, value)| Arc::ptr_eq(key, &first.pod) && Arc::ptr_eq(value, &first.pod))
        );
    }
}
